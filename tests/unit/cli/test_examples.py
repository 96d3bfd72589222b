"""Each example of the README and the documents is run, as it stands, in a shell.

What is run: every line of a console block that begins with a prompt and ``pathgrade``, and the examples of
the command's own help in ``docs/cli.md``. Against a real server with real doors, whose reports are the
fixture fleet's. What cannot run here is in ``ELSEWHERE``, with the reason and the test that runs it.
"""

import asyncio
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from agent.identity import load_or_create
from agent.mesh.peers import KnownPeers
from analytics.clock import now_us
from analytics.exports import Batches
from analytics.store.store import Store
from analytics.wire import EnrolRequest
from server.accounts.tokens import create_access_token
from server.alerts.book import Book
from server.alerts.model import Alert, Matcher, Phase, Severity, Silence
from server.api.core import ExportRange
from server.app import serving
from server.settings import Settings
from server.state import State, create_token
from tests.unit.alerts.receivers import web
from tests.unit.analytics.facts import body, put, reading
from tests.unit.analytics.tcp_sessions import session
from tests.unit.cli import test_flows as local
from tests.unit.server.enrolling import enrolment, nobodys
from tests.unit.web.fleet import MEMBERS, FixtureCore

ROOT = Path(__file__).parents[3]
PROMPT = re.compile(r"[a-z]*[$#] +(pathgrade .*)")
OF_HELP = re.compile(r"    (pathgrade .*)")

NEEDS_TESTS = "tests need agents that are online"
ELSEWHERE = {
    r"pathgrade server run .*": (
        "serves until it is ended",
        "tests/lab/test_mesh_demand.py",
        "start_server(",
    ),
    r"pathgrade agent run .*": ("runs until it is ended", "tests/lab/test_mesh_demand.py", "start_agents("),
    r"pathgrade agent check.*": ("loads eBPF programs", "tests/unit/cli/test_check.py", '"check"'),
    r"pathgrade agent nat .*": ("needs NATs", "tests/lab/test_ladder.py", '"nat"'),
    r"pathgrade hops --deep .*": ("sends raw packets", "tests/lab/test_hops.py", '"--deep"'),
    r"pathgrade hops .* --report .*": (NEEDS_TESTS, "tests/unit/cli/test_hops_live.py", '"--report"'),
    r"pathgrade audit verify .*": (
        "needs the key of the server that wrote the file",
        "tests/unit/server/test_ledger.py",
        '"audit", "verify"',
    ),
    r"pathgrade server audit-check .*": (
        "needs a folder that a server ran on",
        "tests/unit/server/test_ledger.py",
        '"audit-check"',
    ),
    r"pathgrade server authority drop .*": (
        "needs a rotation, and time after it",
        "tests/unit/agent/test_rotation.py",
        "rotation.drop(",
    ),
    r"pathgrade agent enrol .*": (
        "writes below /etc, and starts a unit",
        "tests/unit/agent/test_joining.py",
        "``pathgrade agent enrol``",
    ),
    r"pathgrade receipt verify .*": (
        "needs readings that two agents signed",
        "tests/unit/server/test_receipts.py",
        '["verify", str(file), *more]',
    ),
    r"pathgrade mesh run .*": (NEEDS_TESTS, "tests/lab/test_mesh_demand.py", '"run", "east-1", "open-1"'),
}
"""Example -> why it is not run here, the test that runs its command, and what stands there."""

IN_TURN = ("pathgrade server ", "pathgrade sla ")
"""Examples that leave something behind for the next one: an account, a file."""

PASSWORD = re.compile(r"account add |--password")
"""Examples that ask for one on the terminal."""

CODES = {"doctor": {0, 1}, "policy": {0, 1}}
"""Command -> exit codes that say that it did its work, if others than 0 do: what it finds is this host, or
what a policy does not allow at this hour."""

ADMINS = "pathgrade policy set"
"""Examples that need more than an operator's token."""


@dataclass(frozen=True)
class Example:
    """A line of a document, continued lines and all."""

    where: str
    text: str

    def __str__(self) -> str:
        return self.text


def examples() -> list[Example]:
    """Collect them; a line that changes nothing is taken once."""
    found: dict[str, Example] = {}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for text in commands_of(path.read_text(), OF_HELP if path.name == "cli.md" else PROMPT):
            known = f"{path.name} {text}" if text.startswith(IN_TURN) else text
            found.setdefault(known, Example(path.name, text))
    return list(found.values())


def commands_of(document: str, pattern: re.Pattern[str]) -> Iterator[str]:
    for block in re.findall(r"^```\w*\n(.*?)^```", document.replace("\\\n", ""), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if (command := pattern.match(line)) is not None:
                yield re.sub(r"\s+# .*", "", command[1]).strip()


def elsewhere(example: Example) -> tuple[str, str, str] | None:
    return next((why for pattern, why in ELSEWHERE.items() if re.fullmatch(pattern, example.text)), None)


EXAMPLES = examples()
HERE = [example for example in EXAMPLES if elsewhere(example) is None]


class ExampleCore(FixtureCore):
    """The fixture's fleet for all profiles there are; what is exported of the facts is the real server's."""

    def __init__(self, real: Any) -> None:
        super().__init__()
        self._real = real

    def profiles(self) -> list[str]:
        return self._real.profiles()

    def close(self) -> None:
        self._real.close()

    def audit_file(self) -> Iterator[bytes]:
        return self._real.audit_file()

    def export(self, table: str, profile: str, chosen: ExportRange) -> Batches:
        whose = super() if table in ("paths", "findings") else self._real
        return whose.export(table, profile, chosen)


def put_alerts(book: Book) -> None:
    """What examples name: an open alert and a silence."""
    at_us = now_us()
    alert = Alert(
        id="3f9c27b1a0de",
        rule="cause",
        rules_version="2026-11-01",
        kind="uplink",
        where="hotel",
        profile="generic",
        phase=Phase.OPEN,
        severity=Severity.WARNING,
        title="hotel uplink",
        text="The hotel's uplink explains 10 of 10 bad paths.",
        cannot=["radiologist"],
        pairs=[("pacs", "radiologist")],  # not tested here: what is not known is not gone
        first_us=at_us,
        since_us=at_us,
        seen_us=at_us,
        opened_us=at_us,
    )
    book.save([alert], at_us=at_us)
    until_us = at_us + 3_600_000_000
    silence = Silence(id="9d21c4f0", matcher=Matcher(where="*"), until_us=until_us, made_us=at_us, by="a")
    book.silence(silence, at_us)


def receivers(place: Path, url: str) -> Path:
    """Make the file that names the receiver of the examples."""
    secret = place / "webhook-secret"
    secret.write_text("s" * 32)
    secret.chmod(0o600)
    path = place / "alerts.toml"
    path.write_text(f'[receivers.oncall]\nkind = "webhook"\nurl = "{url}"\nsecret_file = "{secret}"\n')
    return path


@contextmanager
def example_server(data: Path, alerts: Path) -> Iterator[str]:
    """Run a server with the fixture's agents enrolled; gives the URL of its report."""
    anywhere = "127.0.0.1:0"
    settings = Settings.load(data=data, agents=anywhere, report=anywhere, stun=[anywhere], alerts=alerts)
    loop, ended, urls = asyncio.new_event_loop(), asyncio.Event(), []
    ready = threading.Event()

    async def serve() -> None:
        async with serving(settings) as running:
            realm = running.realms.of("default")
            put_alerts(realm.alerts._book)
            running.realms._realms["default"] = replace(realm, core=ExampleCore(realm.core))
            urls[:] = [f"https://{running.agents}", f"http://{running.report}"]
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        token = create_token(data, len(MEMBERS), 600)
        for member in MEMBERS:
            body = enrolment(token, member.name, member.site)
            answer = httpx.post(f"{urls[0]}/v1/enrol", json=body, trust_env=False, verify=nobodys(data))
            assert answer.status_code == 200
        yield urls[1]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what examples name under /etc, /var/lib and ~."""
    place = tmp_path_factory.mktemp("host")
    for folder in ("lib", "etc", "bash_completion.d", "zsh", ".config/fish/completions", "agent"):
        (place / folder).mkdir(parents=True)
    load_or_create(place / "agent", "pacs")
    with closing(Store.open(place / "lib" / "cli.md")) as store:
        put(store, body("pacs", 1, readings=[reading()]))
    asked = enrolment(create_token(place / "lib" / "cli.md", 1, 600), "clinic")
    with closing(State.open(place / "lib" / "cli.md")) as state:
        state.enrol(msgspec.convert(asked, EnrolRequest), fingerprint="-", at_us=now_us(), origin="192.0.2.1")
    (policy,) = re.findall(
        r"^```toml\n(\[\[rules?\]\].*?)^```", (ROOT / "docs/control.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (place / "policy.toml").write_text(policy)
    met = KnownPeers(place / "agent")
    met.check("clinic", load_or_create(place / "clinic", "clinic").public_key, now_us=0)
    (place / "etc/agent.toml").write_text(
        'server = "https://127.0.0.1:9"\nname = "pacs"\nsite = "hospital"\n'
        f'data = "{place}/agent"\npassive = "off"\n'
    )
    return place


@pytest.fixture(scope="module")
def ran(place: Path) -> Iterator[dict[Example, subprocess.CompletedProcess[str]]]:
    """Run all examples, a few at a time."""
    kept = [*local.KEPT, session(id="3f2a17c001")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "KEPT", kept)
        with (
            web() as oncall,
            example_server(place / "running", receivers(place, oncall.url)) as url,
            local.agent_at(place / "agent"),
            ThreadPoolExecutor(max_workers=3) as pool,
        ):
            tokens = {
                scope: create_access_token(place / "running", scope, scope=scope)
                for scope in ("operate", "admin")
            }
            asked = Asked(place, url, tokens)
            for document in {example.where for example in HERE if example.text.startswith(KEPT_BY)}:
                assert run(replace(KEEPER, where=document), asked).returncode == 0
            done = pool.map(lambda some: [run(one, asked) for one in some], in_turn())
            yield dict(zip(chain(*in_turn()), chain(*done), strict=True))


KEEPER = Example("", "pathgrade server account add keeper --role admin --data /var/lib/pathgrade")
"""An admin beside those of the examples: the last one cannot be removed."""


KEPT_BY = "pathgrade server account"


def in_turn() -> list[list[Example]]:
    """Keep the order of the document where it matters; all else is run at any time."""
    groups = [[one for one in HERE if one.text.startswith(begins)] for begins in IN_TURN]
    return [*groups, *([one] for one in HERE if not one.text.startswith(IN_TURN))]


class Asked(NamedTuple):
    """Where examples are run, and whom they ask."""

    place: Path
    url: str
    tokens: dict[str, str]


def run(example: Example, asked: Asked) -> subprocess.CompletedProcess[str]:
    """Run a line in bash, with the folders and the server that it names replaced by those that there are."""
    line, (place, url, tokens) = example.text, asked
    for named, meant in {
        "/var/lib/pathgrade": f"{place}/lib/{example.where}",  # each document begins anew
        "/etc/pathgrade": f"{place}/etc",
        "/etc/bash_completion.d": f"{place}/bash_completion.d",
        "${fpath[1]}": f"{place}/zsh",
        "http://192.0.2.10:8080": url,
        "alerts ack ALERT ": "alerts ack 3f9c27b1a0de ",
    }.items():
        line = line.replace(named, meant)
    variables = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(place),
        "PATHGRADE_URL": "" if line.startswith("pathgrade flows") else url,
        "PATHGRADE_TOKEN": tokens["admin" if line.startswith(ADMINS) else "operate"],
        "PATHGRADE_AGENT_DATA": f"{place}/agent",
    }
    if not variables["PATHGRADE_URL"]:
        variables.pop("PATHGRADE_URL")
        line = line.replace("pathgrade flows --agent", f"pathgrade flows --url {url} --agent")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PATHGRADE_") and name not in ("COLUMNS", "XDG_CONFIG_HOME")
    }
    command = ["bash", "-o", "pipefail", "-c", line]
    with typing_a_password() if PASSWORD.search(line) else open(os.devnull) as typed:  # noqa: PTH123  # either
        return subprocess.run(
            command,
            cwd=place,
            env=inherited | variables,
            stdin=typed,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            start_new_session=True,  # no terminal but the one that is typed on
        )


@contextmanager
def typing_a_password() -> Iterator[int]:
    """A terminal on which somebody types a password whenever one is asked for."""
    keyboard, terminal = pty.openpty()
    typed = threading.Event()

    def type_() -> None:
        while not typed.wait(0.1):  # a prompt throws away what was typed before it
            os.write(keyboard, b"a pass phrase of some length\n")

    thread = threading.Thread(target=type_, daemon=True)
    thread.start()
    try:
        yield terminal
    finally:
        typed.set()
        thread.join()
        os.close(terminal)
        os.close(keyboard)


@pytest.mark.parametrize("example", HERE, ids=str)
def test_an_example_does_what_it_says(
    example: Example, ran: dict[Example, subprocess.CompletedProcess[str]]
) -> None:
    done = ran[example]
    good = CODES.get(example.text.split()[1], {0})
    assert done.returncode in good, f"{example.where}: {example}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr


def test_what_runs_elsewhere_does_run_there() -> None:
    for pattern, (reason, path, text) in ELSEWHERE.items():
        assert reason
        assert text in (ROOT / path).read_text(), f"{pattern}: {path} no longer has {text}"
        assert any(re.fullmatch(pattern, example.text) for example in EXAMPLES), f"no example is {pattern}"


def test_jq_is_there_for_the_examples_that_pipe_into_it() -> None:
    assert shutil.which("jq"), "apt-get install jq: the documents' examples use it"


def test_each_command_has_an_example_in_the_reference() -> None:
    _, *sections = re.split(r"^## `(?=pathgrade )", (ROOT / "docs/cli.md").read_text(), flags=re.MULTILINE)
    assert sections
    for section in sections:
        assert "] COMMAND [ARGS]" in section or "\n  Example" in section, section


def test_a_line_is_taken_whole_and_without_its_remark() -> None:
    document = (
        "```console\n$ pathgrade a \\\n   b   # why\n# pathgrade c '#1'\n$ ls\n```\n$ pathgrade outside\n"
    )
    assert list(commands_of(document, PROMPT)) == ["pathgrade a    b", "pathgrade c '#1'"]
