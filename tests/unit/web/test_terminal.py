"""What other hosts say, shown in a terminal: as text, and as nothing else."""

import io

import msgspec
import pytest
from rich.console import Console, RenderableType

from analytics.report import Report
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


@pytest.mark.parametrize(
    "draw",
    [
        lambda: terminal.report(evil_report(), 1000),
        lambda: terminal.status(
            msgspec.structs.replace(CORE.status(), version=EVIL, rows={EVIL: 1}), evil_report().verdict
        ),
        evil_hops,
        lambda: terminal.flows([msgspec.structs.replace(CORE.flows()[0], process=EVIL)], 1000),
    ],
    ids=["report", "status", "hops", "flows"],
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
