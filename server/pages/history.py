"""The pages over time: two moments beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from analytics.compare import CauseChange, Comparison, PathChange, What
from server.api.access import Scope, TheCore, needs
from server.api.history import comparison_of
from server.api.moments import At
from server.pages import text
from server.pages.frame import TheFrame
from server.pages.render import page

ROWS_SHOWN: Final = 60
"""Of one cause; the JSON has all."""

WHAT_WORDS: Final[dict[What, str]] = {
    What.WORSE: "worse",
    What.GONE: "no reading any more",
    What.UNKNOWN: "not known any more",
    What.NEW: "new",
    What.KNOWN: "known again",
    What.MOVED: "same letter",
    What.BETTER: "better",
    What.SAME: "the same",
}
MINUS: Final = "\N{MINUS SIGN}"
STATE_WORDS: Final = {"appeared": "New cause", "stayed": "Still there", "ended": "Ended"}


@dataclass(frozen=True, slots=True)
class Number:
    """A number then and now."""

    label: str
    was: str
    now: str
    by: str  # how it moved, with its sign; empty where it did not, or is not known


@dataclass(frozen=True, slots=True)
class Line:
    """One path that changed."""

    change: PathChange
    what: str
    numbers: list[Number]
    rungs: str


@dataclass(frozen=True, slots=True)
class Group:
    """Changes that one cause explains; no cause for those that none does."""

    cause: CauseChange | None
    title: str
    lines: list[Line]
    left_out: int


@dataclass(frozen=True, slots=True)
class DiffView:
    """The page ``/diff``."""

    told: Comparison
    groups: list[Group]
    counts: list[tuple[str, int]]  # in words, worst first


def router() -> APIRouter:
    """Build the routes of these pages."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])
    _add_diff(routes)
    return routes


def _add_diff(routes: APIRouter) -> None:
    @routes.get("/diff")
    def diff(core: TheCore, frame: TheFrame, before: At = None, after: At = None) -> HTMLResponse:
        later = after or frame.moment
        told = comparison_of(core, before, later, frame.profile) if before else None
        return page(
            "diff.html",
            frame,
            view=diff_view(told) if told else None,
            before=local(told.before_us) if told else "",
            after=local(told.after_us) if told and later else "",
            ago=[(words, frame.here(before=ago, after="", at="")) for words, ago in AGO.items()],
        )


AGO: Final = {"1 hour ago": "1h", "1 day ago": "1d", "1 week ago": "1w"}


def local(us: int) -> str:
    """As a field of a date and a time has it, UTC, whole minutes."""
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M")


def diff_view(told: Comparison) -> DiffView:
    """Lay a comparison out."""
    groups = [_group(cause, cause.changes) for cause in told.causes]
    if told.others:
        groups.append(_group(None, told.others))
    counts = [(WHAT_WORDS[What(what)], count) for what, count in told.counts.items() if count]
    return DiffView(told, groups, counts)


def _group(cause: CauseChange | None, rows: Sequence[PathChange]) -> Group:
    title = STATE_WORDS[cause.state] if cause else "No shared cause"
    return Group(cause, title, [line(row) for row in rows[:ROWS_SHOWN]], max(0, len(rows) - ROWS_SHOWN))


def line(change: PathChange) -> Line:
    """Write one change; the terminal shows the same."""
    numbers = [
        Number(label, write(before), write(after), _by(before, after, write))
        for label, before, after, write in (
            ("RTT", change.rtt_before_us, change.rtt_after_us, text.ms),
            ("Loss", change.loss_before_bp, change.loss_after_bp, text.loss),
            ("Capacity", change.capacity_before_kbps, change.capacity_after_kbps, text.rate),
        )
    ]
    return Line(change, WHAT_WORDS[change.what], numbers, _rungs(change))


def _by(before: int | None, after: int | None, write: Callable[[int], str]) -> str:
    if before is None or after is None or before == after:
        return ""
    return f"{'+' if after > before else MINUS}{write(abs(after - before))}"


def _rungs(change: PathChange) -> str:
    """Write the rung, and the one before where it is another."""
    known = (rung for rung in (change.rung_before, change.rung_after) if rung is not None)
    return " → ".join(text.RUNG_SHORT[rung] for rung in dict.fromkeys(known)) or text.NOTHING
