"""What one direction alone took, from the stamps of both ends: one-way delay, and delay above the least.

A one-way delay needs to know how far the two wall clocks are apart. Two things bound that, and no more is
claimed than they allow together:

* no packet arrives before it was sent. So each round trip confines peer minus own clock to T3 - T4 ..
  T2 - T1, an interval as wide as its RTT, and the round trips before and after it confine it too, less the
  drift that two clocks can gather in between;
* what both kernels' clock discipline claims: |wall clock - UTC| <= maxerror (adjtimex(2)).

The first alone always leaves a one-way delay of zero possible, so without claims nothing is said. With them,
the least and the median delay lie in intervals: told are their middles, and how far the truth may be off.

Delay above the least needs no such thing: the offset falls out, and drift is a straight line under the delays
(Moon, Skelly, Towsley: Estimation and removal of clock skew from network delay measurements, 1999).

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from agent.mesh.probe import RoundTrip, percentile

MOST_DRIFT: Final = 1e-3
"""Two clocks, each slewed by at most 500 ppm (adjtimex(2)); crystals themselves are within 100 ppm."""
LEAST_TRIPS: Final = 20

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class OneWay:
    """Delay src -> dst, in microseconds; the truth is within ``bound_us`` of both."""

    min_us: int
    p50_us: int
    bound_us: int


@dataclass(frozen=True, slots=True)
class Above:
    """Delay src -> dst above its own least, in microseconds."""

    p50_us: int
    p95_us: int


def one_way(trips: Iterable[RoundTrip], claims_us: Sequence[int | None]) -> OneWay | None:
    """One-way delay; ``claims_us``: how far each end's clock may be from UTC.

    None where an end claims nothing, where the stamps contradict the claims (then a clock was stepped, or
    lies), or where the bound is not smaller than the least delay itself.
    """
    used = _usable(trips)
    within_us = [claim for claim in claims_us if claim is not None]
    if not used or len(within_us) < len(claims_us):
        return None
    offsets = list(_confined(used, 1000 * sum(within_us)))
    if any(low > high for low, high in offsets):
        return None
    delays = [
        (_forward(trip) - high, _forward(trip) - low) for trip, (low, high) in zip(used, offsets, strict=True)
    ]
    return _told(delays)


def above_least(trips: Iterable[RoundTrip]) -> Above | None:
    """Delay above its least, drift removed; None with few samples, or if the clocks ran apart too fast."""
    used = _usable(trips)
    if len(used) < LEAST_TRIPS:
        return None
    begin, base = used[0].t1, _forward(used[0])
    points = [(trip.t1 - begin, _forward(trip) - base) for trip in used]
    under = _lower_line(points)
    if under is None:
        return None
    slope, (at, height) = under
    above = sorted(max(0, round(y - height - slope * (x - at))) for x, y in points)
    return Above(_us(percentile(above, 50)), _us(percentile(above, 95)))


def _usable(trips: Iterable[RoundTrip]) -> list[RoundTrip]:
    return sorted((trip for trip in trips if trip.good and trip.kernel), key=lambda trip: trip.t1)


def _forward(trip: RoundTrip) -> int:
    return trip.t2 - trip.t1


def _confined(trips: Sequence[RoundTrip], claimed_ns: int) -> Iterator[Interval]:
    """Peer minus own clock at the time of each trip: its own interval, its neighbours', and the claims'."""
    own = [_own_interval(trip) for trip in trips]
    times = [trip.t1 for trip in trips]
    forth = _swept(own, times)
    back = _swept(own[::-1], times[::-1])[::-1]
    for (low, high), (low_after, high_after) in zip(forth, back, strict=True):
        yield max(low, low_after, -claimed_ns), min(high, high_after, claimed_ns)


def _own_interval(trip: RoundTrip) -> Interval:
    drift = MOST_DRIFT * (trip.t4 - trip.t1)
    return trip.t3 - trip.t4 - drift, trip.t2 - trip.t1 + drift


def _swept(intervals: Sequence[Interval], times: Sequence[int]) -> list[Interval]:
    """Each interval narrowed by those before it, which widen as the clocks may drift apart."""
    swept = list(intervals[:1])
    for (a, b), (low, high) in zip(pairwise(times), intervals[1:], strict=True):
        drift = MOST_DRIFT * abs(b - a)
        swept.append((max(low, swept[-1][0] - drift), min(high, swept[-1][1] + drift)))
    return swept


def _told(delays: Sequence[Interval]) -> OneWay | None:
    """Order statistics of values in intervals lie between those of the lower and of the upper ends."""
    lows = sorted(max(0, math.floor(low)) for low, _ in delays)
    highs = sorted(math.ceil(high) for _, high in delays)
    least, median = (lows[0], highs[0]), (percentile(lows, 50), percentile(highs, 50))
    bound_us = math.ceil(max(high - low for low, high in (least, median)) / 2000) + 1  # 1: rounding
    min_us = _us(sum(least) / 2)
    return OneWay(min_us, _us(sum(median) / 2), bound_us) if bound_us < min_us else None


def _lower_line(points: Sequence[tuple[int, int]]) -> tuple[float, tuple[int, int]] | None:
    """Slope and a point of the line under all points that is closest to them; None if steeper than drift.

    It is the edge of the lower convex hull that spans the mean time.
    """
    middle = sum(x for x, _ in points) / len(points)
    for a, b in pairwise(_lower_hull(points)):
        if b[0] >= middle:
            slope = (b[1] - a[1]) / (b[0] - a[0])
            return (slope, a) if abs(slope) <= MOST_DRIFT else None
    return None


def _lower_hull(points: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Andrew's monotone chain; ``points`` are in order of time."""
    hull: list[tuple[int, int]] = []
    for x, y in points:
        if hull and hull[-1][0] == x:
            y = min(y, hull.pop()[1])  # noqa: PLW2901  # two at one instant: the lower counts
        while len(hull) > 1 and _turns_down(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return hull


def _turns_down(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) <= (b[1] - a[1]) * (c[0] - a[0])


def _us(ns: float) -> int:
    return round(ns / 1000)
