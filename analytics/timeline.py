"""A path over time: columns of equal width, what is usual beside them, and when route and rung changed.

READ FIRST: ``timeline`` (of readings) and ``timeline_of_rollups`` (for ranges of weeks). Each list
of ``Columns`` has one entry a column, gaps included, so that a chart takes them as they are; at most
``MOST_COLUMNS``. Pure: the same facts give the same timeline.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec

from analytics.baseline import Baseline, Sample, baseline
from analytics.detect import Change, history
from analytics.grade import ended_us, grade
from analytics.histogram import FINE_BITS, counts_of, middle, ranked
from analytics.measurement import Letter, Reading, Rung
from analytics.paths import WORST_FIRST
from analytics.rollup import LIGHT_RTTS, Rollup
from analytics.rules.load import Rules
from analytics.spans import RouteSpan, RungSpan, Tested, route_spans, rung_spans
from analytics.usual import Past

MOST_COLUMNS: Final = 600
STEPS_US: Final = tuple(s * 1_000_000 for s in (60, 300, 900, 1_800, 3_600, 7_200, 21_600, 86_400, 604_800))
"""Widths of a column: those that people read off a clock or a calendar."""
MOST_SPANS: Final = 200
"""Of routes and of rungs, the latest: a path that changes more often has no history to read."""
BAND: Final = 2
"""Spreads of what is usual to each side of it: 95 in 100 tests of a calm path are within."""

Number = int | None


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """Lists of the same length; None where nothing was measured."""

    at_us: list[int]  # start of each column
    tests: list[int]  # readings of src in it
    rtt_min_us: list[Number]  # least
    rtt_p50_us: list[Number]  # median of the tests' medians; light tests only where there are no others
    rtt_p95_us: list[Number]  # greatest of the tests' 95th percentiles
    loss_bp: list[Number]  # src -> dst
    loss_back_bp: list[Number]  # dst -> src
    capacity_kbps: list[Number]  # greatest that a test found, src -> dst
    rung: list[Rung | None]  # of the last test
    letter: list[Letter | None]  # the worst of the tests'; ? only where no test has another; None: not kept
    usual_us: list[Number]  # what is usual; None while too little is known
    usual_low_us: list[Number]  # two usual spreads below it
    usual_high_us: list[Number]  # and above


class Slower(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which the path was slower than usual."""

    since_us: int
    until_us: int | None  # None: it is on at the end of the range
    usual_us: int
    worst_us: int  # of a change that is on: the last test's
    rule: str


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """One directed path from ``since_us`` to ``until_us``."""

    src: str
    dst: str
    profile: str
    since_us: int  # start of the first column
    until_us: int
    step_us: int  # width of a column
    made_of: str  # readings, or the rollups readings_1h, readings_1d: those have no letters, routes, changes
    columns: Columns
    slower: list[Slower]  # by time
    routes: list[RouteSpan]  # by time; tests whose route is not known are in none
    rungs: list[RungSpan]  # by time
    rules_version: str


class Span(NamedTuple):
    """The columns of a range."""

    since_us: int
    until_us: int
    step_us: int

    @property
    def starts(self) -> range:
        """Start of each column."""
        return range(self.since_us, self.until_us, self.step_us)


def span_of(since_us: int, until_us: int, step_us: int | None = None) -> Span:
    """Cut a range into columns that begin on their own multiples; wider ones where there are too many."""
    until_us = max(until_us, since_us + 1)
    wide = next((step for step in STEPS_US if _count(since_us, until_us, step) <= MOST_COLUMNS), None)
    least = wide or -(-(until_us - since_us) // (MOST_COLUMNS - 1))
    step = max(step_us or 0, least)
    return Span(since_us - since_us % step, until_us, step)


def _count(since_us: int, until_us: int, step_us: int) -> int:
    return len(range(since_us - since_us % step_us, until_us, step_us))


def timeline(
    src: str,
    dst: str,
    *,
    profile: str,
    span: Span,
    readings: Iterable[Reading],
    past: Sequence[Past],
    rules: Rules,
) -> Timeline:
    """Lay out readings of both directions; ``past`` is src's from two weeks before the range on, by time.

    Raises ``RulesError`` for an unknown profile.
    """
    known = list(readings)
    own = _by_time(reading for reading in known if reading.src == src)
    back = _by_time(reading for reading in known if reading.src == dst)
    returned = {(one.reading.cycle, one.reading.test): one.reading for one in back}
    bins, back_bins = _binned(own, span), _binned(back, span)
    changes, bands = _history(past)
    letters = [_letter(tests, returned, profile, rules) for tests in bins]
    return Timeline(
        src=src,
        dst=dst,
        profile=profile,
        since_us=span.since_us,
        until_us=span.until_us,
        step_us=span.step_us,
        made_of="readings",
        columns=_laid_out(span, list(map(_cell, bins)), list(map(_cell, back_bins)), letters, bands),
        slower=_slower(changes, span),
        routes=route_spans(_within(own, span), MOST_SPANS),
        rungs=rung_spans(_within(own, span), MOST_SPANS),
        rules_version=rules.version,
    )


# --- tests in columns ---------------------------------------------------------------------------------------


def _by_time(readings: Iterable[Reading]) -> list[Tested]:
    """In the order in which the tests ended."""
    told = (Tested(ended_us(one), one) for one in readings)
    return sorted(told, key=lambda one: (one.at_us, one.reading.cycle, one.reading.test))


def _within(tests: Iterable[Tested], span: Span) -> list[Tested]:
    return [one for one in tests if span.since_us <= one.at_us < span.until_us]


def _binned(tests: Iterable[Tested], span: Span) -> list[list[Reading]]:
    bins: list[list[Reading]] = [[] for _ in span.starts]
    for one in _within(tests, span):
        bins[(one.at_us - span.since_us) // span.step_us].append(one.reading)
    return bins


def _letter(
    own: Sequence[Reading], returned: dict[tuple[int, str], Reading], profile: str, rules: Rules
) -> Letter | None:
    """Grade each test at its end: nothing was stale then."""
    letters = {_grade_of(one, returned.get((one.cycle, one.test)), profile, rules) for one in own}
    return min(letters, key=WORST_FIRST.index, default=None)


def _grade_of(own: Reading, back: Reading | None, profile: str, rules: Rules) -> Letter:
    return grade(own, back, profile, rules, ended_us(own)).letter


@dataclass(frozen=True, slots=True)
class _Cell:
    """What one column says of one direction."""

    tests: int
    rtt_min_us: Number
    rtt_p50_us: Number
    rtt_p95_us: Number
    loss_bp: Number
    capacity_kbps: Number
    rung: Rung | None


_EMPTY: Final = _Cell(0, None, None, None, None, None, None)


def _cell(tests: Sequence[Reading]) -> _Cell:
    if not tests:
        return _EMPTY
    deep = _known(one.rtt_p50_us for one in tests if one.rtt_n > LIGHT_RTTS)
    medians = deep or _known(one.rtt_p50_us for one in tests)
    return _Cell(
        tests=len(tests),
        rtt_min_us=min(_known(one.rtt_min_us for one in tests), default=None),
        rtt_p50_us=round(median(medians)) if medians else None,
        rtt_p95_us=max(_known(one.rtt_p95_us for one in tests), default=None),
        loss_bp=_loss_bp(sum(one.sent for one in tests), sum(min(one.sent, one.received) for one in tests)),
        capacity_kbps=max(_known(one.capacity_kbps for one in tests), default=None),
        rung=tests[-1].rung,
    )


def _known(values: Iterable[Number]) -> list[int]:
    return [value for value in values if value is not None]


def _loss_bp(sent: int, received: int) -> Number:
    return round(10_000 * max(0, sent - received) / sent) if sent else None


def _laid_out(
    span: Span,
    own: Sequence[_Cell],
    back: Sequence[_Cell],
    letters: list[Letter | None],
    bands: Sequence[Band],
) -> Columns:
    usual = _usual_at(span, bands)

    def column(name: str, cells: Sequence[_Cell]) -> list[Any]:
        return [getattr(cell, name) for cell in cells]

    same = ("tests", "rtt_min_us", "rtt_p50_us", "rtt_p95_us", "loss_bp", "capacity_kbps", "rung")
    return Columns(
        at_us=list(span.starts),
        **{name: column(name, own) for name in same},
        loss_back_bp=column("loss_bp", back),
        letter=letters,
        usual_us=[None if one is None else one.rtt_us for one in usual],
        usual_low_us=[None if one is None else max(0, one.rtt_us - BAND * one.spread_us) for one in usual],
        usual_high_us=[None if one is None else one.rtt_us + BAND * one.spread_us for one in usual],
    )


# --- what is usual ------------------------------------------------------------------------------------------


class Band(NamedTuple):
    """What was usual from a moment on; None: too little was known."""

    since_us: int
    usual: Baseline | None


def _history(past: Sequence[Past]) -> tuple[list[Change], list[Band]]:
    """Go through the tests of each stretch on one rung, noting what was usual on the way.

    A change that was on when the rung changed ended with it.
    """
    changes: list[Change] = []
    bands: list[Band] = []
    stretches = _by_rung(past)
    for number, stretch in enumerate(stretches):
        found = history((Sample(one.at_us, one.rtt_p50_us) for one in stretch), usual=_noting(bands))
        next_us = stretches[number + 1][0].at_us if number + 1 < len(stretches) else None
        changes += [*found.past, *([replace(found.change, until_us=next_us)] if found.change else [])]
        bands += [] if next_us is None else [Band(next_us, None)]
    return changes, bands


def _noting(bands: list[Band]) -> Callable[[Sequence[Sample], int], Baseline | None]:
    """As ``baseline``, and a note of each answer."""

    def noted(samples: Sequence[Sample], at_us: int) -> Baseline | None:
        found = baseline(samples, at_us)
        bands.append(Band(at_us, found))
        return found

    return noted


def _by_rung(past: Sequence[Past]) -> list[list[Past]]:
    """Another rung is another path."""
    return [list(own) for _, own in groupby(past, key=lambda one: one.rung)]


def _usual_at(span: Span, bands: Sequence[Band]) -> list[Baseline | None]:
    """What was usual at the end of each column; nothing before the first test."""
    since = [band.since_us for band in bands]
    places = [bisect_left(since, start_us + span.step_us) - 1 for start_us in span.starts]
    return [bands[at].usual if at >= 0 else None for at in places]


def _slower(changes: Iterable[Change], span: Span) -> list[Slower]:
    """Those that touch the range."""
    return [
        Slower(
            since_us=one.since_us,
            until_us=one.until_us,
            usual_us=one.usual_us,
            worst_us=one.now_us,
            rule=one.rule,
        )
        for one in changes
        if one.since_us < span.until_us and (one.until_us is None or one.until_us >= span.since_us)
    ]


# --- from rollups -------------------------------------------------------------------------------------------


def timeline_of_rollups(
    src: str, dst: str, *, profile: str, span: Span, made_of: str, rollups: Iterable[Rollup], rules: Rules
) -> Timeline:
    """Lay out rollups of both directions: no letters, routes and changes, which need single tests."""
    bins: dict[str, list[list[Rollup]]] = {end: [[] for _ in span.starts] for end in (src, dst)}
    for one in sorted(rollups, key=lambda one: one.last_us or one.start_us):
        if one.src in bins and span.since_us <= one.start_us < span.until_us:
            bins[one.src][(one.start_us - span.since_us) // span.step_us].append(one)
    cells = {end: list(map(_folded, own)) for end, own in bins.items()}
    return Timeline(
        src=src,
        dst=dst,
        profile=profile,
        since_us=span.since_us,
        until_us=span.until_us,
        step_us=span.step_us,
        made_of=made_of,
        columns=_laid_out(span, cells[src], cells[dst], [None] * len(span.starts), []),
        slower=[],
        routes=[],
        rungs=[],
        rules_version=rules.version,
    )


def _folded(rollups: Sequence[Rollup]) -> _Cell:
    if not rollups:
        return _EMPTY
    counts = counts_of(one.rtt_histogram for one in rollups)
    total = counts.total()
    sent = sum(one.sent for one in rollups)
    return _Cell(
        tests=sum(one.tests for one in rollups),
        rtt_min_us=min(_known(one.rtt_min_us for one in rollups), default=None),
        rtt_p50_us=middle(ranked(counts, -(-total // 2)), FINE_BITS) if total else None,
        rtt_p95_us=max(_known(one.rtt_p95_max_us for one in rollups), default=None),
        loss_bp=_loss_bp(sent, sum(min(one.sent, one.received) for one in rollups)),
        capacity_kbps=max(_known(one.capacity_max_kbps for one in rollups), default=None),
        rung=rollups[-1].rung,
    )
