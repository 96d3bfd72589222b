"""What is usual on each path, from its past readings, and which paths are slower now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final

import msgspec

from analytics.baseline import KEPT_US, LEAST_SPAN_US, Sample
from analytics.detect import History, history
from analytics.measurement import Rung

SINCE_US: Final = KEPT_US
"""How far back readings are looked at."""
MOST_PAST: Final = 400_000
"""Readings that are looked at for one report: two weeks of 100 directed paths every five minutes."""

UsualOf = Mapping[tuple[str, str], History]


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What of an earlier reading tells what is usual."""

    src: str
    dst: str
    at_us: int
    rung: Rung
    rtt_p50_us: int


def since_us(at_us: int, *, paths: int, period_us: int) -> int | None:
    """How far back to look, so that ``MOST_PAST`` readings come at most; None where a day has more."""
    affordable_us = MOST_PAST * period_us // max(1, paths)
    if affordable_us < LEAST_SPAN_US:
        return None
    return max(0, at_us - min(SINCE_US, affordable_us))


def usual_of(past: Iterable[Past]) -> UsualOf:
    """Go through the readings of each path, which come by path and time. Another rung is another path."""
    return {
        pair: history(_latest_route(list(own)))
        for pair, own in groupby(past, key=lambda one: (one.src, one.dst))
    }


def _latest_route(own: Sequence[Past]) -> list[Sample]:
    """The readings since the rung changed last."""
    first = next((at for at in range(len(own) - 1, 0, -1) if own[at - 1].rung is not own[at].rung), 0)
    return [Sample(one.at_us, one.rtt_p50_us) for one in own[first:]]
