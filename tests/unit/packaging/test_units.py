"""The systemd units: how exposed they are, and that docs/privileges.md tells each line of them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UNITS = ROOT / "scripts/packaging/systemd"
UNTOLD = {"ExecStart", "EnvironmentFile", "Restart", "RestartSec", "TimeoutStopSec", "TimeoutStartSec"}
"""How it is started, which gives and takes nothing."""


def lines_of(part: str) -> dict[str, str]:
    """Read [Service]; a key that is there twice with both values."""
    service = (
        (UNITS / f"pathgrade-{part}.service").read_text().partition("[Service]\n")[2].partition("\n[")[0]
    )
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", service, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return {key: "; ".join(values) for key, values in found.items()}


def told(column: int) -> dict[str, str]:
    """Read the table of the units' lines: 1 = agent, 2 = server."""
    section = (
        (ROOT / "docs/privileges.md").read_text().partition("## The systemd units")[2].partition("\n## ")[0]
    )
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    rows = [row for row in rows if len(row) == 4]
    return {
        row[0].strip("` "): row[column].strip("` ").replace("(empty)", "")
        for row in rows
        if row[column].strip()
    }


@pytest.mark.parametrize(("part", "column"), [("agent", 1), ("server", 2)])
def test_each_line_of_a_unit_is_told(part: str, column: int) -> None:
    lines = {key: value for key, value in lines_of(part).items() if key not in UNTOLD}
    assert told(column) == lines


@pytest.mark.parametrize(("part", "most"), [("agent", 4.0), ("server", 2.5)])
def test_how_exposed_a_unit_is(part: str, most: float) -> None:
    tool = shutil.which("systemd-analyze")
    assert tool, "systemd-analyze is missing: apt install systemd"
    done = subprocess.run(
        [tool, "security", "--offline=true", UNITS / f"pathgrade-{part}.service"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "SYSTEMD_PAGER": ""},
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) <= most, f"pathgrade-{part}: {found[1]}, at most {most}"


def test_the_agent_has_what_ebpf_needs_and_no_more() -> None:
    from agent.privileges import KEEP

    lines = lines_of("agent")
    assert set(lines["CapabilityBoundingSet"].split()) == KEEP["ebpf"].needed
    assert lines["AmbientCapabilities"] == lines["CapabilityBoundingSet"]


def test_the_drop_in_for_polling_has_what_polling_can_use() -> None:
    from agent.privileges import KEEP

    text = (UNITS / "polling.conf").read_text()
    assert set(re.findall(r"CAP_\w+", text)) == KEEP["inet_diag"].useful


@pytest.mark.parametrize("part", ["agent", "server"])
def test_a_unit_reads_without_a_complaint(part: str, tmp_path: Path) -> None:
    """Whole, but for the program, which is not installed here."""
    text = (UNITS / f"pathgrade-{part}.service").read_text()
    (tmp_path / f"pathgrade-{part}.service").write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / f"pathgrade-{part}.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"pathgrade-{part}" not in done.stderr, done.stderr
