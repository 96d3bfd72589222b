"""One reading out of the last few of a pair that is tested often and lightly. Pure.

A light test alone supports few letters: 20 round trips are no 95th percentile, 20 probes exclude no loss.
Here the newest tests are put together, no more of them than a statement needs, so that what is new is not
diluted:

- round trips: the newest tests with 59 of them, none more than ``FRESH_US`` older than the newest. Least of
  all; percentiles as the mean of the tests', by their round trips.
- losses: the newest tests with 300 probes, none more than ``COUNTED_US`` older, none from before a loss
  began.
- capacity, and what hops told: the newest test that measured it, up to ``KEPT_US`` ago.

Only tests of one rung and one route are put together: another one is another path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from analytics.measurement import Reading, Rung

S_US: Final = 1_000_000
ROUND_TRIPS: Final = 59
PROBES: Final = 300
FRESH_US: Final = 100 * S_US
COUNTED_US: Final = 600 * S_US
KEPT_US: Final = 1_800 * S_US

_PERCENTILES: Final = tuple(f"rtt_p{percent}_us" for percent in (10, 25, 50, 75, 90, 95, 99))
_OF_CAPACITY: Final = (
    "capacity_kbps",
    "capacity_trust",
    "capacity_why",
    "rtt_loaded_n",
    "rtt_loaded_p50_us",
    "rtt_loaded_p95_us",
)
_OF_TRACE: Final = (
    "test",  # hops are found by it
    "route_id",
    "route_change",
    "path_mtu",
    "mtu_black_hole",
    "mtu_probes",
    "class_sent",
    "class_arrived",
)


class Both(NamedTuple):
    """Both directions of one test, and when the server had them."""

    there: Reading
    back: Reading
    at_us: int

    @property
    def ends(self) -> tuple[Reading, Reading]:
        """The two readings."""
        return self.there, self.back


def together(tests: Sequence[Both], *, loss_since_us: int | None = None, trimmed: bool = False) -> Both:
    """Put tests of one pair together that ended without an error, the newest last.

    ``trimmed``: the test that lost most counts as one packet more than the next: a gap is no loss rate.
    """
    at_us = tests[-1].at_us
    traced = next((test for test in reversed(tests) if _is_traced(test, at_us)), None)
    there, back = (
        _together(
            [(test.at_us, test.ends[side]) for test in tests],
            at_us,
            traced.ends[side] if traced else None,
            loss_since_us,
            trimmed=trimmed,
        )
        for side in (0, 1)
    )
    return Both(there, back, at_us)


def _is_traced(test: Both, now_us: int) -> bool:
    """Both ends' hops are known by this test."""
    return now_us - test.at_us <= KEPT_US and bool(test.there.route_id and test.back.route_id)


Timed = tuple[int, Reading]


def _together(
    told: Sequence[Timed],
    now_us: int,
    traced: Reading | None,
    loss_since_us: int | None,
    *,
    trimmed: bool,
) -> Reading:
    """One direction."""
    newest = told[-1][1]
    if newest.rung is Rung.NONE:
        return newest
    good = [(at_us, end) for at_us, end in told if end.rung is newest.rung]
    trips = _newest(good, now_us - FRESH_US, ROUND_TRIPS, "rtt_n")
    counted = _newest(good, max(now_us - COUNTED_US, loss_since_us or 0), PROBES, "sent")
    measured = [end for at_us, end in good if end.capacity_kbps is not None and now_us - at_us <= KEPT_US]
    return msgspec.structs.replace(
        newest,
        **_round_trips(trips),
        sent=sum(end.sent for end in counted),
        received=sum(end.sent for end in counted) - _lost(counted, trimmed=trimmed),
        **(_taken(_OF_CAPACITY, measured[-1]) if measured else {}),
        **(_taken(_OF_TRACE, traced) if traced else {}),
    )


def _newest(ends: Sequence[Timed], since_us: int, needed: int, field: str) -> list[Reading]:
    """The newest readings that have so much of something together; the very newest in any case."""
    found: list[Reading] = []
    so_far = 0
    for at_us, end in reversed(ends):
        if found and (so_far >= needed or at_us < since_us):
            break
        found.append(end)
        so_far += getattr(end, field)
    return found


def _lost(ends: Sequence[Reading], *, trimmed: bool) -> int:
    most, *others = sorted((max(0, end.sent - end.received) for end in ends), reverse=True)
    if trimmed:
        most = min(most, 1 + (others[0] if others else 0))
    return most + sum(others)


def _taken(fields: Iterable[str], end: Reading) -> dict[str, Any]:
    return {field: getattr(end, field) for field in fields}


def _round_trips(ends: Sequence[Reading]) -> dict[str, int | None]:
    told = [end for end in ends if end.rtt_n and end.rtt_min_us is not None]
    if not told:
        return {}
    means = {field: _mean(told, field) for field in (*_PERCENTILES, "ipdv_us")}
    return {
        "rtt_n": sum(end.rtt_n for end in told),
        "rtt_min_us": min(end.rtt_min_us for end in told if end.rtt_min_us is not None),
        **means,
    }


def _mean(ends: Sequence[Reading], field: str) -> int | None:
    """Mean of what readings tell, by how many round trips each has."""
    known: list[tuple[int, int]] = [
        (end.rtt_n, value) for end in ends if (value := getattr(end, field)) is not None
    ]
    if not known:
        return None
    return round(sum(n * value for n, value in known) / sum(n for n, _ in known))
