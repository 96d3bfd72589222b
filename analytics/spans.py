"""Since when a path took a route or ran over a rung, and until when: tests that follow each other. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec

from analytics.measurement import Reading, RouteChange, Rung


class Tested(NamedTuple):
    """A reading, and when its test ended."""

    at_us: int
    reading: Reading


class RouteSpan(msgspec.Struct, frozen=True, kw_only=True):
    """Tests that took the same route, one after the other."""

    since_us: int  # end of the first
    until_us: int  # end of the last
    tests: int
    route_id: str
    change: RouteChange  # how the first stood to what its sender saw before


class RungSpan(msgspec.Struct, frozen=True, kw_only=True):
    """Tests that ran over the same rung, one after the other."""

    since_us: int  # end of the first
    until_us: int  # end of the last
    tests: int
    rung: Rung
    rungs_failed: str  # why each higher rung failed, in the first


def route_spans(tests: Sequence[Tested], most: int) -> list[RouteSpan]:
    """Cut tests, by time, where the route changes; the latest ``most``. Tests without a route: not."""
    traced = [one for one in tests if one.reading.route_id]
    groups = [list(own) for _, own in groupby(traced, key=lambda one: one.reading.route_id)]
    return [
        RouteSpan(
            since_us=own[0].at_us,
            until_us=own[-1].at_us,
            tests=len(own),
            route_id=own[0].reading.route_id,
            change=own[0].reading.route_change,
        )
        for own in groups[-most:]
    ]


def rung_spans(tests: Sequence[Tested], most: int) -> list[RungSpan]:
    """Cut tests, by time, where the rung changes; the latest ``most``."""
    groups = [list(own) for _, own in groupby(tests, key=lambda one: one.reading.rung)]
    return [
        RungSpan(
            since_us=own[0].at_us,
            until_us=own[-1].at_us,
            tests=len(own),
            rung=own[0].reading.rung,
            rungs_failed=own[0].reading.rungs_failed,
        )
        for own in groups[-most:]
    ]
