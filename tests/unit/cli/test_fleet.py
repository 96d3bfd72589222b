"""``agents``, ``audit``, ``paths`` with filters, and completion of names, as people run them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.wire import Dependence, Health, NatReport
from server.api.agent_info import Vitals
from server.api.audits import AuditEntry
from server.api.controls import Off, Reach
from server.api.listed import PathList, listed
from server.commands.audit_rows import follow_rows, news, printed
from server.pages import agent_words
from tests.unit.cli.test_cli import pathgrade, words
from tests.unit.web.fleet import FixtureCore, serve
from tests.unit.web.test_terminal import EVIL, SHOWN, drawn

CORE = FixtureCore()
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(CORE) as at:
        yield at


def test_agents_by_site_with_how_many(url: str) -> None:
    done = pathgrade("agents", url=url, columns=120)
    lines = [words(line) for line in done.stdout.splitlines()]
    assert lines[0].startswith("agent site called services")
    assert lines[-1] == "6 agents, 6 online"
    assert any(line.startswith("pacs hospital online") for line in lines)
    site = json.loads(pathgrade("agents", "--site", "hotel", "--json", url=url).stdout)
    assert [member["name"] for member in site] == ["radiologist"]
    assert "No agent fits; 6 agents, 6 online." in pathgrade("agents", "--away", url=url).stdout


def test_an_agent_that_nobody_has_is_one_clear_error(url: str) -> None:
    done = pathgrade("agents", "nobody", url=url)
    assert (done.returncode, done.stdout) == (65, "")
    assert (
        done.stderr
        == "error: no agent is called 'nobody'\n  try: pathgrade agents names them; the page is /agents\n"
    )


def test_all_of_one_agent(url: str) -> None:
    lines = [words(line) for line in pathgrade("agents", "radiologist", url=url).stdout.splitlines()]
    known = next(info for info in CORE.agents() if info.name == "radiologist")
    assert lines[:3] == ["radiologist", "called the radiologist", "site hotel"]
    assert f"version {known.version}" in lines
    assert any(line.startswith("takes ") for line in lines)
    assert json.loads(pathgrade("agents", "radiologist", "--json", url=url).stdout)["site"] == "hotel"


def test_what_an_agent_says_is_in_words_and_harmless() -> None:
    nat = NatReport(
        udp=True,
        mapped="203.0.113.20",
        mapping=Dependence.ADDRESS_AND_PORT,
        filtering=Dependence.ADDRESS,
        cgnat=True,
        hairpin=False,
    )
    latest = Health(cpu_us=1, rss_kb=61_000, events_seen=9_000, events_lost=2, grants_refused={"old": 3})
    vitals = Vitals(at_us=1, over_s=30, cpu_bp=41, bytes_per_hour=2_000_000, latest=latest)
    off = Off(reach=Reach.SITE, name="hotel", by="ada", since_us=0)
    known = msgspec.structs.replace(
        CORE.agents()[0], site=EVIL, online=False, seen_us=0, nat=nat, vitals=vitals, off=off
    )
    shown = drawn(agent_words.one(known))
    lines = [words(line) for line in shown.splitlines()]
    assert SHOWN in shown
    assert "\x1b" not in shown
    for line in (
        "state away since 1970-01-01 00:00:00 UTC",
        "active tests off for hotel since 1970-01-01 00:00:00 UTC, by ada",
        "takes 0.41 % of a core, 62.5 MB of memory, 2.0 MB sent an hour",
        "sessions 9,000 closed, 2 lost",
        "refused 0 packets of tests, 3 orders",
        "NAT another port for each peer, of the provider (RFC 6598)",
        "public address 203.0.113.20",
        "hairpin no",
    ):
        assert line in lines, shown
    silent = msgspec.structs.replace(known, nat=NatReport(udp=False), vitals=None)
    assert "UDP is blocked, or none is set" in drawn(agent_words.one(silent))
    assert "not known while it is away" in drawn(agent_words.one(silent))


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ([], 30),
        (["--agent", "radiologist"], 10),
        (["--site", "hotel"], 10),
        (["--letter", "D"], 10),
        (["--letter", "D", "--letter", "?", "--agent", "pacs"], 2),
        (["--limit", "7", "--start", "28"], 2),
        (["--letter", "F"], 0),
    ],
)
def test_paths_that_fit(url: str, asked: list[str], rows: int) -> None:
    told = msgspec.json.decode(pathgrade("paths", "--json", *asked, url=url).stdout, type=PathList)
    assert len(told.paths) == rows
    assert len(told.members) == 6


def test_pieces_of_the_list_say_where_the_next_begins(url: str) -> None:
    said = pathgrade("paths", "--limit", "20", url=url).stdout.splitlines()
    assert said[-1] == "1 to 20 of 30 that fit; the next: --start 20"
    assert pathgrade("paths", "--start", "20", url=url).stdout.splitlines()[-1] == "21 to 30 of 30 that fit"
    assert pathgrade("paths", "--letter", "F", url=url).stdout.splitlines()[-1] == (
        "No path fits from place 1 on."
    )


@given(st.integers(1, 40))
def test_pieces_one_after_the_other_are_the_list(limit: int) -> None:
    report, rows, start = CORE.report("pacs"), [], 0
    while True:
        piece = listed(report, start=start, limit=limit)
        rows += piece.paths
        if piece.next is None:
            break
        start = piece.next
    assert rows == report.paths


@pytest.mark.parametrize("asked", [["--agent", "nobody"], ["--site", "moon"]])
def test_who_is_not_there_is_said(url: str, asked: list[str]) -> None:
    done = pathgrade("paths", *asked, url=url)
    assert done.returncode == 65
    assert done.stderr.startswith("error: no ")


def test_audit_is_filtered(url: str) -> None:
    assert "enrol" in pathgrade("audit", "--actor", "pacs", url=url).stdout
    assert json.loads(pathgrade("audit", "--subject", "moon", "--json", url=url).stdout) == []
    assert "Nothing fits" in pathgrade("audit", "--action", "nothing", url=url).stdout


def entry(id_: int, **more: str) -> AuditEntry:
    return AuditEntry(id=id_, at_us=id_, actor="a", action="mark", **more)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 30))
def test_following_prints_each_row_once_in_order(before: int, more: int, limit: int) -> None:
    newest_first = [entry(number) for number in range(before + more, 0, -1)][: max(limit, more)]
    assert [row.id for row in news(before, newest_first)] == [*range(before + 1, before + more + 1)]


def test_following_prints_what_comes_and_ends_by_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter([[entry(1)], [entry(2, detail="\x1b"), entry(1)]])

    def look() -> list[AuditEntry]:
        try:
            return next(looks)
        except StopIteration:
            raise KeyboardInterrupt from None

    follow_rows(look, printed(json=False), sleep=lambda _: None)
    assert capsys.readouterr().out.splitlines() == [
        "1970-01-01T00:00:00Z  a  mark",
        "1970-01-01T00:00:00Z  a  mark  \N{REPLACEMENT CHARACTER}",
    ]
    assert json.loads(printed(json=True)(entry(1)))["id"] == 1


def completed(words_: str, url: str, shell: str = "zsh") -> str:
    """Ask as a shell's script does."""
    place = str(len(words_.split(" ")) - 1)
    variables = {
        "_PATHGRADE_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": words_,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": words_,
        "COMP_CWORD": place,
        "PATHGRADE_URL": url,
    }
    done = subprocess.run(
        [BIN / "pathgrade"], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_agents_names(url: str, shell: str) -> None:
    assert "radiologist" in completed("pathgrade hops rad", url, shell)
    assert "pacs" not in completed("pathgrade hops rad", url, shell)


@pytest.mark.parametrize(
    "typed", ["pathgrade paths --agent ra", "pathgrade explain pacs ra", "pathgrade mesh run ra"]
)
def test_names_are_completed_wherever_an_agent_is_named(url: str, typed: str) -> None:
    assert "radiologist" in completed(typed, url)


def test_a_server_that_is_away_is_silence() -> None:
    assert "radiologist" not in completed("pathgrade hops rad", "http://127.0.0.1:9")


def test_bash_takes_the_script(url: str) -> None:
    script = (
        "source <(pathgrade completion bash); COMP_WORDS=(pathgrade hops rad) COMP_CWORD=2;"
        " _pathgrade_completion pathgrade; echo ${COMPREPLY[@]}"
    )
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PATHGRADE_URL": url}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "radiologist\n"
