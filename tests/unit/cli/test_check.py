"""``pathgrade agent check``: what it makes of the findings, and that it works half-way without privileges."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from agent.check import EXIT_NOT, UNTOLD, Survey, drawn, survey
from agent.config import Config
from ebpf.check import Finding

ROOT = Path(__file__).parents[3]
GOOD = Finding(name="type information", ok=True, seen="/sys/kernel/btf/vmlinux", remedy="")
BAD = Finding(name="tp_btf:[inet]", ok=False, seen="EPERM", remedy="grant CAP_PERFMON")


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that any user may pass."""
    with tempfile.TemporaryDirectory(prefix="pathgrade-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def shown(made: Survey) -> str:
    console = Console(width=160, highlight=False)
    with console.capture() as capture:
        console.print(drawn(made))
    return capture.get()


def test_one_thing_that_does_not_work_is_the_answer() -> None:
    made = survey(None, lambda _: [GOOD, BAD])
    assert (made.works, made.exit_code) == (False, EXIT_NOT)
    said = shown(made)
    (line,) = (line for line in said.splitlines() if line.startswith(BAD.name))
    assert line.split() == ["tp_btf:[inet]", "no", "EPERM", "grant", "CAP_PERFMON"]
    assert 'does not work here: passive = "auto" polls instead' in said


def test_all_that_works_is_said_with_what_was_seen() -> None:
    made = survey(None, lambda _: [GOOD])
    assert (made.works, made.exit_code) == (True, 0)
    assert "type information  yes    /sys/kernel/btf/vmlinux" in shown(made)
    assert "Passive capture by eBPF works here" in shown(made)


def test_it_also_says_who_the_agent_would_be_where_it_writes_and_what_it_falls_back_to() -> None:
    made = survey(None, lambda _: [GOOD])
    assert [one.name for one in made.agent] == ["agent's user", "data folder", "fallback"]
    user, _, fallback = made.agent
    assert user.seen.startswith("root becomes uid" if os.geteuid() == 0 else f"stays uid {os.geteuid()}")
    assert "misses sessions shorter than 1 s" in fallback.seen


@pytest.mark.parametrize(
    ("kind", "ok", "seen"),
    [
        ("absent", True, "will be made"),
        ("full of other things", False, "not the agent's: etc"),
        ("shut away", False, "cannot pass"),
    ],
)
def test_a_data_folder_is_judged_without_being_touched(
    open_place: Path, kind: str, ok: bool, seen: str
) -> None:
    above = open_place / "above"
    above.mkdir()
    data = above / "data"
    if kind != "absent":
        data.mkdir()
        (data / "etc").touch()
    above.chmod(0o000 if kind == "shut away" else 0o755)
    config = Config(server="http://127.0.0.1:9", name="a", site="b", data=data)
    finding = survey(config, lambda _: [GOOD]).agent[1]
    above.chmod(0o755)
    if os.geteuid() == 0 or kind != "full of other things":  # what is mine already needs no handing over
        assert (finding.ok, seen in finding.seen) == (ok, True), finding
    assert bool(finding.remedy) != finding.ok


def test_a_look_leaves_no_folder_behind() -> None:
    asked: list[Path] = []

    def ask(cache: Path) -> list[Finding]:
        asked.append(cache)
        return [GOOD]

    survey(None, ask)
    assert not asked[0].exists()
    assert asked[0] != UNTOLD.cache_folder


def test_an_agents_own_cache_is_the_one_that_is_looked_at(tmp_path: Path) -> None:
    asked: list[Path] = []
    config = Config(server="http://127.0.0.1:9", name="a", site="b", data=tmp_path, cache=tmp_path)
    survey(config, lambda cache: asked.append(cache) or [GOOD])  # type: ignore[func-returns-value]  # a list's append
    assert asked == [tmp_path]


def test_without_privileges_it_still_lists_everything() -> None:
    without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*without, sys.executable, "-m", "pathgrade", "agent", "check", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == EXIT_NOT, done.stderr
    found = json.loads(done.stdout)
    assert not found["works"]
    assert all(one["remedy"] for part in ("ebpf", "agent") for one in found[part] if not one["ok"])
    assert len(found["ebpf"]) > 3
