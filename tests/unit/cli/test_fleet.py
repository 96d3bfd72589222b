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

from analytics.report import Member
from analytics.wire import Dependence, NatReport
from server.api.core import AuditRow
from server.api.listed import PathList, listed
from server.commands.audit import follow_rows, keep, news
from server.pages import agent_words, audit_words
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
    assert done.stderr == "error: no agent is called 'nobody'\n  try: pathgrade agents lists them\n"


def test_all_of_one_agent_in_words_and_harmless() -> None:
    nat = NatReport(
        udp=True,
        mapped="203.0.113.20",
        mapping=Dependence.ADDRESS_AND_PORT,
        filtering=Dependence.ADDRESS,
        cgnat=True,
        hairpin=False,
    )
    member = Member(name="radiologist", site=EVIL, online=False, nat=nat, addresses=["192.168.7.20"])
    shown = drawn(agent_words.one(member, ["night\x1b", "3T"]))
    assert SHOWN in shown
    assert "\x1b" not in shown
    for line in (
        "state away",
        "tags night, 3T",
        "NAT another port for each peer, of the provider (RFC 6598)",
        "public address 203.0.113.20",
        "hairpin no",
    ):
        assert line in [words(one) for one in shown.splitlines()]
    blocked = drawn(agent_words.one(msgspec.structs.replace(member, nat=NatReport(udp=False)), []))
    assert "UDP is blocked, or none is set" in blocked


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
    assert json.loads(pathgrade("audit", "--subject", "hotel", "--json", url=url).stdout) == []
    assert "Nothing fits" in pathgrade("audit", "--action", "mark", url=url).stdout


def row(at_us: int, **more: str) -> AuditRow:
    return AuditRow(at_us=at_us, actor="a", action="mark", **more)


def test_a_row_fits_by_all_that_is_asked() -> None:
    fits = keep(actor="a", action="mark", subject="x", since_us=5)
    assert fits(row(5, subject="x y"))
    assert not fits(row(4, subject="x y"))
    assert not fits(row(5, subject="y"))
    assert keep(actor=None, action=None, subject=None, since_us=None)(row(0))


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 12), st.integers(1, 30))
def test_following_prints_each_row_once_in_order(moments: list[int], first: int, limit: int) -> None:
    """Moments may be equal; as long as no more rows come between two looks than one look shows."""
    log = [row(at_us) for at_us in sorted(moments)]
    limit = max(limit, len(log))
    before = list(reversed(log[:first]))[:limit]
    now = list(reversed(log))[:limit]
    assert list(reversed(before)) + news(before, now) == log if before else news(before, now) == log


def test_following_prints_and_ends_by_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter([[row(1)], [row(2, detail="\x1b"), row(1)]])

    def sleep(_: float) -> None:
        if capsys_lines and len(capsys_lines) > 1:
            raise KeyboardInterrupt

    capsys_lines: list[str] = []

    def line(one: AuditRow) -> str:
        capsys_lines.append(audit_words.line(one))
        return capsys_lines[-1]

    follow_rows(lambda: next(looks), lambda _: True, line, sleep=sleep)
    assert capsys.readouterr().out.splitlines() == capsys_lines
    assert capsys_lines == [
        "1970-01-01T00:00:00Z  a  mark",
        "1970-01-01T00:00:00Z  a  mark  \N{REPLACEMENT CHARACTER}",
    ]


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
