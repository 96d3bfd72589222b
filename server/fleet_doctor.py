"""What a checkup asks a server about itself and its fleet: from any host, through the API."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from analytics import host_checks as host
from analytics import words
from analytics.checkup import Ask, Check, Found, State, asked, failed, look, ok, wrong
from analytics.clock import now_us
from analytics.grade import STALE
from analytics.report import Member, Report
from server.api.client import Client
from server.api.core import TROUBLES, Status
from server.errors import AskError

PART: Final = "fleet"
MOST_NAMED: Final = 5
LATE_CYCLES: Final = 2


def checks(server: Client) -> list[Check]:
    """Ask a server. Raises nothing: what is wrong is in the checks."""
    try:
        sent_s = time.time()
        date = server.connection.get("status", {}).headers.get("date")
        received_s = time.time()
        now, members, report = server.status(), server.agents(), server.report(None)
    except AskError as error:
        return failed(PART, "server", error)
    return asked(
        PART,
        {
            "server": lambda: ok(f"{server.connection.url} answers in {1000 * (received_s - sent_s):.0f} ms"),
            "version": lambda: _version(now, host.version_of("pathgrade")),
            "server's clock": lambda: host.clock_beside(date, sent_s, received_s),
            **of_fleet(now, members, report, now_us()),
        },
    )


def of_fleet(now: Status, members: Sequence[Member], report: Report, at_us: int) -> dict[str, Ask]:
    """Judge what a server says of its fleet. Pure."""
    return {
        "agents online": lambda: _online(members),
        "cycle": lambda: _cycle(now, at_us),
        "paths measured": lambda: _measured(now),
        "fresh": lambda: _fresh(report),
        "budget": lambda: _budget(now),
        "store": lambda: _store(now),
    }


def _version(now: Status, own: str) -> Found:
    if now.version == own:
        return ok(f"both are {own}")
    return look(f"the server is {now.version}, this command {own}", "install the same version on both")


def _online(members: Sequence[Member]) -> Found:
    away = [member.name for member in members if not member.online]
    seen = f"{len(members) - len(away)} of {len(members)}"
    if not members:
        return wrong("no agent has enrolled", "pathgrade server token, then pathgrade agent run on each host")
    if away:
        return look(f"{seen}; not {named(away)}", "on that host: pathgrade doctor")
    return ok(seen)


def _cycle(now: Status, at_us: int) -> Found:
    if now.cycle is None:
        return look("none yet", "a cycle begins when two agents are online that take part in tests")
    age_s = at_us // 1_000_000 - now.cycle
    seen = f"the latest began {words.span(max(0, age_s) * 1_000_000)} ago, one every {now.cycle_s} s"
    if age_s > LATE_CYCLES * now.cycle_s:
        return wrong(seen, "switch active tests on; else the server's log says why none begins")
    return ok(seen)


def _measured(now: Status) -> Found:
    seen = f"{now.paths_measured:,} of {now.paths_expected:,}"
    if now.paths_measured >= now.paths_expected:
        return ok(seen)
    return look(seen, "wait for a cycle to end; pathgrade mesh run SRC DST tests one pair now")


def _fresh(report: Report) -> Found:
    stale = [f"{row.src} → {row.dst}" for row in report.paths if row.grade.rule == STALE]
    if not stale:
        return ok("no path's latest test is too old for a letter")
    seen = f"{words.count(len(stale), 'path')} without a fresh test: {named(stale)}"
    return look(seen, "see that both agents are online; pathgrade explain SRC DST says what is known")


def _budget(now: Status) -> Found:
    if not now.paths_put_off:
        return ok("has room for every path in each cycle")
    return look(
        f"{now.paths_put_off:,} paths wait their turn, every path within {now.cycles_for_all} cycles",
        "nothing, or more: PATHGRADE_BUDGET_CPU_BP, PATHGRADE_BUDGET_BYTES_PER_HOUR",
    )


def _store(now: Status) -> Found:
    told = ", ".join(f"{now.store[key]:,} {what}" for key, what in TROUBLES.items() if now.store.get(key))
    return (
        Found(State.LOOK, told, "the server's log names them") if told else ok("no trouble since it started")
    )


def named(names: Sequence[str]) -> str:
    """List names, but not hundreds."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"
