"""Which paths to look at test by test, and what is usual on all the others, from one row a path. Pure.

A fleet of 1,000 agents has a million directed paths, each with thousands of tests in two weeks: nobody goes
through all of them whenever a test ends. ``Screened`` rows are made once an hour from rollups, and a path is
*suspected* where its last test could be part of a change: slower than usual, and than on the calmest of its
days, by what is material (``analytics/detect.py``: no change is called of less), over another rung, or of a
path that has no row yet. Only those are looked at closely, the slowest first, as far as ``MOST_PAST``
readings go; a path on which a change is on stays suspected until it is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from analytics.baseline import LEAST_SPAN_US, Baseline
from analytics.detect import History, material_us
from analytics.measurement import Reading, Rung
from analytics.usual import MOST_PAST, Known, Pair

_UNKNOWN: Final = -1
"""Excess of a path that nothing is known of: looked at after those that are slower."""


class Screened(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is usual on one path, as of the last full hour."""

    src: str
    dst: str
    rung: Rung
    rtt_us: int
    spread_us: int
    n: int
    of_hour: bool
    floor_us: int  # the least of what is usual, and of the mean of the calmest day


def known_of(rows: Iterable[Screened]) -> dict[Pair, Known]:
    """Tell what is usual on paths that are as usual."""
    return {
        (row.src, row.dst): Known(
            History(Baseline(row.rtt_us, row.spread_us, row.n, of_hour=row.of_hour), None, ())
        )
        for row in rows
    }


def suspects(
    latest: Sequence[Reading], screened: Mapping[Pair, Screened], slower: Iterable[Pair] = ()
) -> list[Pair]:
    """Choose the paths to look at closely, the most suspect first; ``slower`` are those of the last time."""
    excess = {
        (one.src, one.dst): over
        for one in latest
        if (over := _excess_us(one, screened.get((one.src, one.dst)))) is not None
    }
    measured = {(one.src, one.dst) for one in latest}
    before = [pair for pair in slower if pair in measured]
    rest = sorted(excess.keys() - set(before), key=lambda pair: (-excess[pair], pair))
    return [*sorted(before), *rest]


def affordable(chosen: Sequence[Pair], *, period_us: int) -> list[Pair]:
    """As many of them, with their ways back, as a day's readings can be looked at of."""
    most = max(1, MOST_PAST * period_us // LEAST_SPAN_US)
    both = dict.fromkeys(pair for src, dst in chosen[:most] for pair in ((src, dst), (dst, src)))
    return list(both)[:most]


def _excess_us(reading: Reading, usual: Screened | None) -> int | None:
    """By how much a test is slower than on the calmest day; None where there is nothing to suspect."""
    if usual is None or usual.rung is not reading.rung:
        return _UNKNOWN
    if reading.rtt_p50_us is None:
        return None
    over = reading.rtt_p50_us - usual.floor_us
    return over if over > material_us(usual.floor_us) else None
