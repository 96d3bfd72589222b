"""What is usual on a path: median and spread of its past round trips, by hour of the week if enough is known.

Samples are the median round trips of tests. What was measured while a change was on is left out by whoever
calls (``analytics/detect.py``), and so is everything before the last change of the route: that was another
path. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import median
from typing import Final, NamedTuple

from analytics.clock import HOUR_US

WEEK_US: Final = 7 * 24 * HOUR_US
KEPT_US: Final = 2 * WEEK_US
LEAST_SPAN_US: Final = 24 * HOUR_US
"""A day at least: before that nobody knows what its hours are like."""
LEAST_N: Final = 30
LEAST_OF_HOUR: Final = 12
"""Samples of the same hour of the week, not all of one week, from which on they are taken alone."""
NORMAL: Final = 1.4826
"""The median absolute deviation of a normal distribution, to its standard deviation."""
LEAST_SPREAD_US: Final = 500
"""Below it a round trip is as steady as its measurement."""


class Sample(NamedTuple):
    """One test: when it ended, and its median round trip."""

    at_us: int
    rtt_us: int


_AT: Final = attrgetter("at_us")


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is usual."""

    rtt_us: int
    spread_us: int  # as a standard deviation; LEAST_SPREAD_US at least
    n: int
    of_hour: bool  # True: of this hour of the week, False: of all hours


def baseline(samples: Sequence[Sample], at_us: int) -> Baseline | None:
    """Tell what is usual at a moment, from samples of the two weeks before; None while too little is known.

    Samples come in order of time.
    """
    known = _between(samples, at_us - KEPT_US, at_us)
    if len(known) < LEAST_N or known[-1].at_us - known[0].at_us < LEAST_SPAN_US:
        return None
    same_hour = _same_hour(known, at_us)
    of_hour = len(same_hour) >= LEAST_OF_HOUR and same_hour[-1].at_us - same_hour[0].at_us > HOUR_US
    return _robust([sample.rtt_us for sample in (same_hour if of_hour else known)], of_hour=of_hour)


def _between(samples: Sequence[Sample], since_us: int, until_us: int) -> Sequence[Sample]:
    """Cut out a time; a path's samples are in order of time, and thousands."""
    since, until = (bisect_left(samples, us, key=_AT) for us in (since_us, until_us))
    return samples[since:until]


def _same_hour(known: Sequence[Sample], at_us: int) -> list[Sample]:
    """Those of the same hour of the week (UTC), of the two weeks before."""
    hour_us = at_us - at_us % HOUR_US
    begins = range(hour_us - KEPT_US, hour_us + 1, WEEK_US)
    return [sample for begin in begins for sample in _between(known, begin, begin + HOUR_US)]


def _robust(values: Sequence[int], *, of_hour: bool) -> Baseline:
    middle = median(values)
    deviation = median(abs(value - middle) for value in values)
    return Baseline(
        rtt_us=round(middle),
        spread_us=max(LEAST_SPREAD_US, round(NORMAL * deviation)),
        n=len(values),
        of_hour=of_hour,
    )
