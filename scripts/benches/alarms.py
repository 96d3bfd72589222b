"""What others would call a change: the textbook's charts and a fixed line, on the same tests as ours.

Each is told what is usual, tells for every test whether it calls a change, and begins afresh after it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from statistics import median
from typing import Final

from analytics.baseline import Baseline

Chart = Callable[[int], bool]
"""Takes the next median round trip, us; True = a change is called."""


def cusum(usual: Baseline) -> Chart:
    """Page's CUSUM as textbooks have it: k = 0.5, h = 5, nothing clipped."""
    height = 0.0

    def look(rtt_us: int) -> bool:
        nonlocal height
        height = max(0.0, height + (rtt_us - usual.rtt_us) / usual.spread_us - 0.5)
        called = height > 5
        height = 0.0 if called else height
        return called

    return look


def ewma(usual: Baseline) -> Chart:
    """Roberts' EWMA chart as textbooks have it: lambda = 0.2, L = 3."""
    level = 0.0
    limit = 3 * math.sqrt(0.2 / 1.8)

    def look(rtt_us: int) -> bool:
        nonlocal level
        level += 0.2 * ((rtt_us - usual.rtt_us) / usual.spread_us - level)
        called = level > limit
        level = 0.0 if called else level
        return called

    return look


def fixed(usual: Baseline) -> Chart:
    """A line at half as much again as usual, for the median of the last three tests."""
    latest: list[int] = []

    def look(rtt_us: int) -> bool:
        latest.append(rtt_us)
        del latest[:-3]
        called = len(latest) == 3 and median(latest) > 1.5 * usual.rtt_us
        if called:
            latest.clear()
        return called

    return look


CHARTS: Final[dict[str, Callable[[Baseline], Chart]]] = {"cusum": cusum, "ewma": ewma, "fixed": fixed}


def calls(chart: Chart, rtts_us: Iterable[int]) -> int:
    """Count how often one calls a change."""
    return sum(chart(rtt_us) for rtt_us in rtts_us)
