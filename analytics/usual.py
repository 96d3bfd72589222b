"""What is usual on each path, from its past readings, and which paths are slower now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from statistics import median
from typing import Final, NamedTuple

import msgspec

from analytics.added import Place
from analytics.baseline import KEPT_US, LEAST_SPAN_US, Sample
from analytics.detect import History, history
from analytics.measurement import Reading, Rung
from analytics.watched import Watched

SINCE_US: Final = KEPT_US
"""How far back readings are looked at."""
MOST_PAST: Final = 400_000
"""Readings that are looked at for one report: two weeks of 100 directed paths every five minutes."""

Pair = tuple[str, str]
"""Source and destination of a directed path."""


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What of an earlier reading tells what is usual."""

    src: str
    dst: str
    at_us: int
    rung: Rung
    rtt_min_us: int
    rtt_p50_us: int
    one_way_min_us: int | None = None
    one_way_bound_us: int | None = None


class UsualHop(msgspec.Struct, frozen=True, kw_only=True):
    """The usual least round trip of one hop of one path."""

    src: str
    dst: str
    ttl: int
    address: str
    rtt_min_us: int


class Known(NamedTuple):
    """What is known of one path."""

    history: History
    least_us: int | None = (
        None  # usual least round trip: before the change that is on; None without a baseline
    )
    one_way_us: int | None = None  # usual least one-way delay; None where the clocks did not tell
    one_way_bound_us: int = 0
    tests: int = 0  # on this rung, that were looked at
    since_us: int | None = None  # the first of them


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual in a fleet; hops only of paths that are slower now, as each end traced them."""

    paths: Mapping[Pair, Known] = field(default_factory=dict)
    hops: Mapping[Pair, Mapping[Place, int]] = field(default_factory=dict)
    watched: Mapping[Pair, Watched] = field(default_factory=dict)  # paths that are tested between cycles
    calm: Mapping[Pair, Sequence[Reading]] = field(default_factory=dict)  # of a day before the change

    def slower(self) -> dict[Pair, int]:
        """Paths on which a change is on, and since when."""
        changes = {pair: known.history.change for pair, known in self.paths.items()}
        return {pair: change.since_us for pair, change in changes.items() if change is not None}


NOTHING_KNOWN: Final = Usual()


def with_watched(usual: Usual, watched: Mapping[Pair, Watched]) -> Usual:
    """Add what is known of watched paths: they are called slower by their light tests already."""
    paths = {pair: _sooner(known, watched.get(pair)) for pair, known in usual.paths.items()}
    return replace(usual, paths=paths, watched=watched)


def _sooner(known: Known, watched: Watched | None) -> Known:
    past = known.history
    if watched is None or past.usual is None or past.change is not None:
        return known
    change = watched.slower(past.usual)
    return known if change is None else known._replace(history=replace(past, change=change))


def since_us(at_us: int, *, paths: int, period_us: int) -> int | None:
    """How far back to look, so that ``MOST_PAST`` readings come at most; None where a day has more."""
    affordable_us = MOST_PAST * period_us // max(1, paths)
    if affordable_us < LEAST_SPAN_US:
        return None
    return max(0, at_us - min(SINCE_US, affordable_us))


def usual_of(past: Iterable[Past]) -> dict[Pair, Known]:
    """Go through the readings of each path, which come by path and time. Another rung is another path."""
    return {pair: _known(list(own)) for pair, own in groupby(past, key=lambda one: (one.src, one.dst))}


def usual_hops_of(hops: Iterable[UsualHop]) -> dict[Pair, dict[Place, int]]:
    """Hops by path and place."""
    found: dict[Pair, dict[Place, int]] = {}
    for hop in hops:
        found.setdefault((hop.src, hop.dst), {})[hop.ttl, hop.address] = hop.rtt_min_us
    return found


def calm_of(readings: Iterable[Reading]) -> dict[Pair, list[Reading]]:
    """Readings by path."""
    found: dict[Pair, list[Reading]] = {}
    for reading in readings:
        found.setdefault((reading.src, reading.dst), []).append(reading)
    return found


def _known(own: Sequence[Past]) -> Known:
    """Of the readings since the rung changed last."""
    first = next((at for at in range(len(own) - 1, 0, -1) if own[at - 1].rung is not own[at].rung), 0)
    route = own[first:]
    found = history([Sample(one.at_us, one.rtt_p50_us) for one in route])
    until_us = route[-1].at_us + 1 if found.change is None else found.change.since_us
    calm = [one for one in route if until_us - LEAST_SPAN_US <= one.at_us < until_us]
    if found.usual is None or not calm:
        return Known(found, tests=len(route), since_us=route[0].at_us)
    ways = [one.one_way_min_us for one in calm if one.one_way_min_us is not None]
    return Known(
        found,
        round(median(one.rtt_min_us for one in calm)),
        round(median(ways)) if ways else None,
        max((one.one_way_bound_us for one in calm if one.one_way_bound_us is not None), default=0),
        tests=len(route),
        since_us=route[0].at_us,
    )
