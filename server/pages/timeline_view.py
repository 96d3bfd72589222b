"""A path over time as a drawing and in words: what a page shows before its script draws more. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from analytics.measurement import RouteChange
from analytics.spans import RouteSpan
from analytics.timeline import Timeline
from server.pages import text

WIDTH: Final = 1_000
HEIGHT: Final = 160
LOSS_HEIGHT: Final = 40
"""Of the loss of 10 % and more, drawn up from the ground."""
LOSS_FULL_BP: Final = 1_000
HEADROOM: Final = 1.1
MOST_TOLD: Final = 12
"""Spans of a kind that a page lists, the latest."""
RANGES: Final = {"1h": 3_600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
"""How far back a page's timeline may go, s."""
US_PER_S: Final = 1_000_000

OTHER_ROUTE: Final = {
    RouteChange.CHANGED: "another route",
    RouteChange.BALANCED: "spread over several routes",
}


class Mark(NamedTuple):
    """Something that happened at a moment of the drawing."""

    x: int
    kind: str  # route, rung
    words: str


class Box(NamedTuple):
    """A time in which the path was slower than usual."""

    x: int
    width: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """The chart as SVG has it, ``WIDTH`` x ``HEIGHT``; lines are broken where nothing was measured."""

    lines: list[str]  # points of the median round trip
    bands: list[str]  # polygons of what is usual
    losses: list[tuple[int, int, int]]  # x, width, height: the worse way
    slower: list[Box]
    marks: list[Mark]
    top_us: int


@dataclass(frozen=True, slots=True)
class Told:
    """The same in words."""

    slower: list[str]
    routes: list[str]
    rungs: list[str]


def drawing(of: Timeline) -> Drawing | None:
    """Draw a timeline; None where nothing was measured."""
    columns = of.columns
    known = [us for us in (*columns.rtt_p50_us, *columns.usual_high_us) if us is not None]
    if not any(us is not None for us in columns.rtt_p50_us):
        return None
    top_us = round(max(known) * HEADROOM)
    scale = _Scale(of.since_us, of.until_us, top_us)
    xs = [scale.x(at_us + of.step_us // 2) for at_us in columns.at_us]
    return Drawing(
        lines=[_points(run) for run in _runs(xs, [scale.y(us) for us in columns.rtt_p50_us])],
        bands=_bands(xs, columns.usual_low_us, columns.usual_high_us, scale),
        losses=_losses(of, scale),
        slower=[_box(one.since_us, one.until_us or of.until_us, scale) for one in of.slower],
        marks=_marks(of, scale),
        top_us=top_us,
    )


def told(of: Timeline) -> Told:
    """Say when it was slower, which routes it took and over which rungs it ran, the latest first."""
    return Told(
        slower=[
            f"{_span(one.since_us, one.until_us)}: up to {text.ms(one.worst_us)},"
            f" usually {text.ms(one.usual_us)}"
            for one in reversed(of.slower[-MOST_TOLD:])
        ],
        routes=[
            f"{_span(one.since_us, one.until_us)}: route {one.route_id[:8]}, {text.plural(one.tests, 'test')}"
            f"{_changed(one)}"
            for one in reversed(of.routes[-MOST_TOLD:])
        ],
        rungs=[
            f"{_span(one.since_us, one.until_us)}: {text.RUNG_LONG[one.rung]},"
            f" {text.plural(one.tests, 'test')}"
            for one in reversed(of.rungs[-MOST_TOLD:])
        ],
    )


def _changed(span: RouteSpan) -> str:
    words = OTHER_ROUTE.get(span.change)
    return f", {words}" if words else ""


def _span(since_us: int, until_us: int | None) -> str:
    """Write a time: '2026-11-25 09:41 to 10:02', '2026-11-25 09:41 and still'."""
    since = text.clock(since_us)[:16]
    if until_us is None:
        return f"since {since}"
    until = text.clock(until_us)[:16]
    return f"{since} to {until[11:] if until[:10] == since[:10] else until}"


class _Scale(NamedTuple):
    since_us: int
    until_us: int
    top_us: int

    def x(self, at_us: int) -> int:
        inside_us = min(max(at_us, self.since_us), self.until_us) - self.since_us
        return WIDTH * inside_us // max(1, self.until_us - self.since_us)

    def y(self, us: int | None) -> int | None:
        return None if us is None else HEIGHT - HEIGHT * us // max(1, self.top_us)


def _runs(xs: Sequence[int], ys: Sequence[int | None]) -> Iterator[list[tuple[int, int]]]:
    """Cut a line where it has gaps; a lone point is drawn as a short line."""
    pairs = list(zip(xs, ys, strict=True))
    for is_known, run in groupby(pairs, key=lambda pair: pair[1] is not None):
        if is_known:
            points = [(x, y) for x, y in run if y is not None]
            yield points if len(points) > 1 else [points[0], (points[0][0] + 2, points[0][1])]


def _points(run: Sequence[tuple[int, int]]) -> str:
    return " ".join(f"{x},{y}" for x, y in run)


def _bands(
    xs: Sequence[int], low_us: Sequence[int | None], high_us: Sequence[int | None], scale: _Scale
) -> list[str]:
    lows, highs = [scale.y(us) for us in low_us], [scale.y(us) for us in high_us]
    upper, lower = _runs(xs, highs), _runs(xs, lows)
    return [_points([*above, *reversed(below)]) for above, below in zip(upper, lower, strict=False)]


def _losses(of: Timeline, scale: _Scale) -> list[tuple[int, int, int]]:
    wide = max(1, WIDTH * of.step_us // max(1, of.until_us - of.since_us))
    ways = zip(of.columns.at_us, of.columns.loss_bp, of.columns.loss_back_bp, strict=True)
    worse = [(scale.x(at_us), max(there or 0, back or 0)) for at_us, there, back in ways]
    return [(x, wide, max(2, min(LOSS_HEIGHT, LOSS_HEIGHT * bp // LOSS_FULL_BP))) for x, bp in worse if bp]


def _box(since_us: int, until_us: int, scale: _Scale) -> Box:
    x = scale.x(since_us)
    return Box(x, max(2, scale.x(until_us) - x))


def _marks(of: Timeline, scale: _Scale) -> list[Mark]:
    routes = [
        Mark(scale.x(one.since_us), "route", f"{text.clock(one.since_us)}: {OTHER_ROUTE[one.change]}")
        for one in of.routes
        if one.change in OTHER_ROUTE
    ]
    rungs = [
        Mark(scale.x(one.since_us), "rung", f"{text.clock(one.since_us)}: {text.RUNG_LONG[one.rung]}")
        for one in of.rungs[1:]
    ]
    return sorted([*routes, *rungs])
