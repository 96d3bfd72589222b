"""What other hosts say, shown in a terminal: as text, and as nothing else."""

import io

import msgspec
import pytest
from rich.console import Console, RenderableType

from analytics.fused import Fused, Number, Origin
from analytics.measurement import Rung
from analytics.passive import Applications
from analytics.report import Report, Service
from analytics.usage import By
from server.api.doors import MeshResult, MeshRun
from server.pages import terminal
from tests.unit.web.fleet import MEMBERS, FixtureCore, hops, row

EVIL = "a\x1b]0;owned\x07\x9b2J\n[link=http://192.0.2.1]b[/link][/]"
SHOWN = "a\N{REPLACEMENT CHARACTER}]0;owned"
CORE = FixtureCore()


def drawn(thing: RenderableType) -> str:
    """As on a terminal that takes colours and links, but with every style left out."""
    out = io.StringIO()
    Console(file=out, width=1000, force_terminal=True, color_system=None, highlight=False).print(thing)
    return out.getvalue()


def evil_report() -> Report:
    made = CORE.report("pacs")
    evil = msgspec.structs.replace(made.paths[0], src=EVIL, src_site=EVIL, legs=[], error=EVIL)
    verdict = msgspec.structs.replace(made.verdict, headline=EVIL, details=[EVIL])
    return msgspec.structs.replace(made, paths=[evil], verdict=verdict, rules_version=EVIL)


def evil_hops() -> RenderableType:
    src, dst = MEMBERS[5], MEMBERS[4]
    detail = CORE.detail(src.name, dst.name, "pacs")
    assert detail is not None
    return terminal.hops(
        msgspec.structs.replace(
            detail,
            forward=msgspec.structs.replace(row(src, dst, "pacs"), error=EVIL, rungs_failed=f"lan: {EVIL}"),
            forward_hops=[msgspec.structs.replace(hops(src, dst)[0], address=EVIL)],
            flows=[msgspec.structs.replace(flow, process=EVIL) for flow in detail.flows],
        ),
        EVIL,
    )


def evil_applications() -> Applications:
    made = CORE.applications(By.PROCESS)
    return msgspec.structs.replace(made, rows=[msgspec.structs.replace(made.rows[0], process=EVIL)])


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 140, 160])
@pytest.mark.parametrize(
    "draw",
    [
        lambda width: terminal.flows(CORE.flows(), width),
        lambda width: terminal.applications(CORE.applications(By.PROCESS), width),
        lambda width: terminal.applications(CORE.applications(By.DESTINATION), width),
    ],
    ids=["flows", "processes", "destinations"],
)
def test_a_table_fits_its_terminal(draw, width: int) -> None:  # type: ignore[no-untyped-def]
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(draw(width))
    assert max(map(len, out.getvalue().splitlines())) <= width


def test_a_wide_terminal_tells_all_of_an_application() -> None:
    shown = drawn(terminal.applications(CORE.applications(By.PROCESS, but="pathgrade"), 1000))
    first = next(line for line in shown.splitlines() if "getscu" in line)
    assert first.startswith("D getscu")
    assert f" {'D' * 3}·{'D' * 20} " in first
    assert "2,400 of 92,000 segments sent again" in first
    assert "68 % of the sending time waited for the peer's receive window: not the network" in shown


def test_no_application_is_said_so() -> None:
    none = msgspec.structs.replace(CORE.applications(By.PROCESS), rows=[])
    assert drawn(terminal.applications(none, 80)) == "No session in 24 hours.\n"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: terminal.report(evil_report(), 1000),
        lambda: terminal.status(
            msgspec.structs.replace(CORE.status(), version=EVIL, rows={EVIL: 1}), evil_report().verdict
        ),
        evil_hops,
        lambda: terminal.flows([msgspec.structs.replace(CORE.flows()[0], process=EVIL)], 1000),
        lambda: terminal.applications(evil_applications(), 1000),
    ],
    ids=["report", "status", "hops", "flows", "applications"],
)
def test_what_other_hosts_say_reaches_the_terminal_as_text_only(draw) -> None:  # type: ignore[no-untyped-def]
    shown = drawn(draw())
    assert SHOWN in shown
    assert "[link=http://192.0.2.1]b[/link][/]" in shown
    assert [
        char
        for char in shown
        if not char.isprintable() and char not in "\n\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"
    ] == []


def test_services_and_what_their_sessions_say_are_harmless() -> None:
    named = Service(name=EVIL, profile="pacs", agent="a", port=4242)
    assert SHOWN in drawn(terminal.services([named], 120))
    assert "No service is known" in drawn(terminal.services([], 120))
    detail = CORE.detail(MEMBERS[5].name, MEMBERS[4].name, "pacs")
    assert detail is not None
    grade = detail.forward.grade
    number = Number(name="loss", value=120, unit="bp", origin=Origin.PASSIVE, n=3_000)
    fused = Fused(services=[EVIL], active=grade, numbers=[number], until_us=1, apart=EVIL, rule="r")
    seen = msgspec.structs.replace(detail, forward=msgspec.structs.replace(detail.forward, fused=fused))
    said = drawn(terminal.hops(seen, "pacs"))
    assert SHOWN in said
    assert EVIL not in said
    assert "loss 1.2 % (by sessions, n 3,000)" in said
    assert f"By the probes alone it is {grade.letter}" in said


def test_what_waits_for_the_budget_is_said() -> None:
    made = CORE.report("pacs")
    waiting = msgspec.structs.replace(made.paths[0], put_off=True, age_s=720)
    assert "12\N{NO-BREAK SPACE}min: budget" in drawn(
        terminal.report(msgspec.structs.replace(made, paths=[waiting]), 200)
    )
    status = msgspec.structs.replace(CORE.status(), paths_put_off=26, cycles_for_all=8)
    assert "26 paths wait for a later cycle" in drawn(terminal.status(status, made.verdict))
    assert "budget" not in drawn(terminal.status(CORE.status(), made.verdict))


def test_the_status_names_troubles_of_the_store_only() -> None:
    troubled = {"torn_tails": 3, "upkeep_failures": 2, "files_set_aside": 1}
    status, verdict = CORE.status(), CORE.report("pacs").verdict
    told = drawn(terminal.status(msgspec.structs.replace(status, store=troubled), verdict))
    assert "1 files set aside, 2 failed steps of the upkeep; see the server's log" in told
    assert "see the server's log" not in drawn(terminal.status(status, verdict))


def test_a_watched_path_says_since_when_and_what_is_not_watched_is_said() -> None:
    made = CORE.detail("pacs", "radiologist", "pacs")
    assert made is not None
    watched = {"watched": True, "letter_since_us": 1_000_000, "lossy_since_us": 2_000_000}
    forward = msgspec.structs.replace(made.forward, **watched)
    shown = drawn(terminal.hops(msgspec.structs.replace(made, forward=forward), "pacs"))
    letter = forward.grade.letter.value
    assert f"Tested between cycles, too: {letter} since 1970-01-01 00:00:01 UTC, loses packets since" in shown
    assert "between cycles" not in drawn(terminal.hops(made, "pacs"))
    status = msgspec.structs.replace(CORE.status(), paths_watched=4, paths_not_watched=10)
    said = "4 paths tested between cycles; no room in the budget to watch 10 more"
    assert said in drawn(terminal.status(status, CORE.report("pacs").verdict))


def test_results_on_demand_are_failures_first_then_the_slowest_and_harmless() -> None:
    results = [
        MeshResult(src="a", dst="b", rung=Rung.LAN, rtt_p50_us=200, loss_bp=0),
        MeshResult(src="b", dst="a", rung=Rung.SRFLX, rtt_p50_us=41_000),
        MeshResult(src="c", dst="a", rung=Rung.NONE, error=EVIL),
    ]
    run = MeshRun(id="r", pairs=2, pairs_ended=2, started_us=1_000_000, ended_us=2_500_000, results=results)
    out = drawn(terminal.mesh_run(run, 200))
    assert [line.split(" ")[0] for line in out.splitlines()[1:4]] == ["c", "b", "a"]
    assert "2 of 3 directed paths reached in 1.5 s" in out
    assert "\x1b]0" not in out
    many = msgspec.structs.replace(run, results=results * 10)
    assert "10 more: --json has all" in drawn(terminal.mesh_run(many, 200))
