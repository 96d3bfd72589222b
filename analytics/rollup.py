"""Rollups: what the readings of one path said in five minutes, an hour, a day. Pure.

A rollup is folded from readings, and any coarser rollup is exactly the fold of finer ones: every column is a
sum, a least, a greatest, or a histogram whose buckets are summed. All of these are associative and know no
order. ``FOLDS`` is the one definition: the SQL in ``analytics/store/rolled.py`` is made from it.

What a test adds up to is what its readings say: a path's rollups of different rungs are kept apart, because
another rung is another path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from analytics.histogram import FINE_BITS, MOST_COUNT, Histogram, bucket, counts_of, pack
from analytics.measurement import (
    Reading,
    Rung,
    at_us,
    choice,
    count,
    histogram,
    named,
    us,
    whole,
)

MOST_SUM: Final = 2**62
"""As the bound of a column: no sum of what a faulty sender says may leave 63 bits."""


LIGHT_RTTS: Final = 20
"""A test of no more round trips is a light one between cycles (``server.budget.WATCH_PROBES``): it counts,
but what is usual must not be what was watched, so its median is in no sum and no histogram."""


class Level(StrEnum):
    """How much time one rollup holds; the value is also the name of its table."""

    FIVE_MINUTES = "readings_5m"
    HOUR = "readings_1h"
    DAY = "readings_1d"

    @property
    def width_us(self) -> int:
        """Length in time."""
        return _WIDTHS_US[self]


_WIDTHS_US: Final = {
    Level.FIVE_MINUTES: 300_000_000,
    Level.HOUR: 3_600_000_000,
    Level.DAY: 86_400_000_000,
}


class Rollup(msgspec.Struct, frozen=True, kw_only=True):
    """All readings of one path over one rung whose tests ended in one stretch of time."""

    tenant: Annotated[str, named("tenant the agents belong to")]
    src: Annotated[str, named("agent that sent")]
    dst: Annotated[str, named("agent that received")]
    rung: Annotated[Rung, choice("rung of the ladder the tests ran over; none = unreachable")]
    start_us: Annotated[int, at_us("start of the stretch; a test belongs to that in which it ended")]
    tests: Annotated[int, count("readings")] = 0
    answered: Annotated[int, count("of them with a median of more than 20 round trips")] = 0
    sent: Annotated[int, count("probes src sent to dst")] = 0
    received: Annotated[int, count("different probes that dst received")] = 0
    duplicated: Annotated[int, count("probes dst received more than once")] = 0
    reordered: Annotated[int, count("probes dst received after a later one")] = 0
    rtt_n: Annotated[int, count("round trips measured")] = 0
    rtt_p50_sum_us: Annotated[int, whole("sum of those medians", "us")] = 0
    first_us: Annotated[int, at_us("when the first test ended")] | None = None
    last_us: Annotated[int, at_us("when the last test ended")] | None = None
    rtt_min_us: Annotated[int, us("least round trip")] | None = None
    rtt_p50_max_us: Annotated[int, us("greatest of the tests' medians")] | None = None
    rtt_p95_max_us: Annotated[int, us("greatest of the tests' 95th percentiles")] | None = None
    one_way_min_us: Annotated[int, us("least delay src -> dst")] | None = None
    capacity_max_kbps: (
        Annotated[int, whole("greatest capacity src -> dst that a test found", "kbit/s")] | None
    ) = None
    rtt_histogram: Annotated[
        tuple[int, ...], histogram("of those medians, 64 buckets to a doubling", "us")
    ] = ()


KEYS: Final = ("tenant", "src", "dst", "rung", "start_us")
"""One row each."""


class Fold(NamedTuple):
    """How a column is folded, and what one reading brings, in Python and in SQL."""

    by: str  # sum, min, max
    of: Callable[[Reading, int], int | None]  # of the reading, and when its test ended
    sql: str  # over the columns of a reading, and at_us


def _told(by: str, column: str) -> Fold:
    return Fold(by, lambda reading, _: getattr(reading, column), column)


DEEP: Final = f"CASE WHEN rtt_n > {LIGHT_RTTS} THEN rtt_p50_us END"
"""The median of a test that is no light one, in SQL."""


def _deep(reading: Reading) -> int | None:
    return reading.rtt_p50_us if reading.rtt_n > LIGHT_RTTS else None


FOLDS: Final[Mapping[str, Fold]] = {
    "tests": Fold("sum", lambda *_: 1, "1"),
    "answered": Fold(
        "sum", lambda reading, _: int(_deep(reading) is not None), f"({DEEP} IS NOT NULL)::BIGINT"
    ),
    **{name: _told("sum", name) for name in ("sent", "received", "duplicated", "reordered", "rtt_n")},
    "rtt_p50_sum_us": Fold("sum", lambda reading, _: _deep(reading) or 0, f"coalesce({DEEP}, 0)"),
    "first_us": Fold("min", lambda _, ended_us: ended_us, "at_us"),
    "last_us": Fold("max", lambda _, ended_us: ended_us, "at_us"),
    "rtt_min_us": _told("min", "rtt_min_us"),
    "rtt_p50_max_us": _told("max", "rtt_p50_us"),
    "rtt_p95_max_us": _told("max", "rtt_p95_us"),
    "one_way_min_us": _told("min", "one_way_min_us"),
    "capacity_max_kbps": _told("max", "capacity_kbps"),
}
"""Every column but the keys and the histogram."""

_FOLD: Final[Mapping[str, Callable[[Iterable[int]], int | None]]] = {
    "sum": lambda values: min(MOST_SUM, sum(values)),
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
}


def of_reading(reading: Reading, received_us: int, level: Level) -> Rollup:
    """Roll up one reading. Its test ended when its sender says, but not after it was received."""
    ended_us = min(reading.ended_us, received_us)
    known = _deep(reading)
    return Rollup(
        tenant=reading.tenant,
        src=reading.src,
        dst=reading.dst,
        rung=reading.rung,
        start_us=ended_us - ended_us % level.width_us,
        rtt_histogram=() if known is None else (bucket(known, FINE_BITS), 1),
        **{name: fold.of(reading, ended_us) for name, fold in FOLDS.items()},  # type: ignore[arg-type]  # by name
    )


def merge(finer: Iterable[Rollup], level: Level) -> list[Rollup]:
    """Fold rollups of a finer level, or of this one, into this one, by key."""
    groups: dict[tuple[Any, ...], list[Rollup]] = {}
    for one in finer:
        start_us = one.start_us - one.start_us % level.width_us
        groups.setdefault((one.tenant, one.src, one.dst, one.rung, start_us), []).append(one)
    return [_folded(key, groups[key]) for key in sorted(groups)]


def _folded(key: tuple[Any, ...], rows: list[Rollup]) -> Rollup:
    folded = {
        name: _FOLD[fold.by](v for row in rows if (v := getattr(row, name)) is not None)
        for name, fold in FOLDS.items()
    }
    return Rollup(
        **dict(zip(KEYS, key, strict=True)),
        **folded,  # type: ignore[arg-type]  # by name
        rtt_histogram=_summed(row.rtt_histogram for row in rows),
    )


def _summed(histograms: Iterable[Histogram]) -> Histogram:
    return pack({number: min(MOST_COUNT, n) for number, n in counts_of(histograms).items()})
