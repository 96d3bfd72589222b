"""What is usual on each path, as the report needs it: computed once for each state of the readings."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from analytics.baseline import LEAST_SPAN_US
from analytics.measurement import Reading
from analytics.store.store import Store
from analytics.usual import NOTHING_KNOWN, Usual, calm_of, since_us, usual_hops_of, usual_of

CALM_PATHS: Final = 50
"""Of those that are slower, for which it is told what the outcome usually is: those since the latest."""
CALM_TESTS: Final = 36
"""Tests before the change that tell it: three hours of the default cycle."""


class UsualCache:
    """Remembers the last answer; may be asked from several threads."""

    def __init__(self, store: Store, *, period_us: int) -> None:
        self._store = store
        self._period_us = period_us
        self._lock = threading.Lock()
        self._key: tuple[str, int, int] | None = None
        self._known = NOTHING_KNOWN

    def of(self, tenant: str, latest: Sequence[Reading], at_us: int, *, now: bool) -> Usual:
        """Tell what is usual, given the latest readings; only the answer for ``now`` is remembered."""
        key = (tenant, len(latest), max((reading.ended_us for reading in latest), default=0))
        with self._lock:
            if now and key == self._key:
                return self._known
        known = self._ask(tenant, at_us, paths=len(latest))
        if now:
            with self._lock:
                self._key, self._known = key, known
        return known

    def _ask(self, tenant: str, at_us: int, *, paths: int) -> Usual:
        since = since_us(at_us, paths=paths, period_us=self._period_us)
        if since is None:
            return NOTHING_KNOWN
        known = Usual(usual_of(self._store.past(tenant, since_us=since, at_us=at_us)))
        slower = known.slower()
        if not slower:
            return known
        both = {pair for src, dst in slower for pair in ((src, dst), (dst, src))}
        until_us = min(slower.values())
        hops = self._store.usual_hops(
            tenant, sorted(both), since_us=max(0, until_us - LEAST_SPAN_US), until_us=until_us
        )
        told = sorted(slower, key=slower.__getitem__, reverse=True)[:CALM_PATHS]
        calm = self._store.readings_before(
            tenant,
            {pair for src, dst in told for pair in ((src, dst), (dst, src))},
            since_us=max(0, until_us - LEAST_SPAN_US),
            until_us=until_us,
            most=CALM_TESTS,
        )
        return replace(known, hops=usual_hops_of(hops), calm=calm_of(calm))
