"""What is usual on each path, as the report needs it: computed once for each state of the readings."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from analytics.baseline import LEAST_SPAN_US
from analytics.measurement import Reading
from analytics.screen import Screened, affordable, known_of, suspects
from analytics.store.store import Store
from analytics.usual import (
    NOTHING_KNOWN,
    Known,
    Pair,
    Usual,
    calm_of,
    since_us,
    usual_hops_of,
    usual_of,
)

CALM_PATHS: Final = 50
"""Of those that are slower, for which it is told what the outcome usually is: those since the latest."""
MOST_SUSPECTS: Final = 300
"""Of a large fleet, that are looked at test by test."""
LEAST_APART_S: Final = 60.0
THEN_PATHS: Final = 50_000
"""Of a moment of the past: for more paths, two weeks of rollups take minutes."""
FEW_DAYS_US: Final = 3 * 24 * 3600 * 1_000_000
"""Of paths whose incident is looked into: enough to know what is usual, and quick."""
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
        self._screened_of: tuple[str, int] | None = None
        self._screened: Mapping[Pair, Screened] = {}
        self._calm: Mapping[Pair, Known] = {}
        self._clock = time.monotonic
        self._look_again_s = 0.0

    def of(self, tenant: str, latest: Sequence[Reading], at_us: int, *, now: bool) -> Usual:
        """Tell what is usual, given the latest readings; only the answer for ``now`` is remembered."""
        if not now:
            return self._then(tenant, latest, at_us)
        key = (tenant, len(latest), max((reading.ended_us for reading in latest), default=0))
        with self._lock:
            if key == self._key:
                return self._known
            slower = self._known.slower() if self._key and self._key[0] == tenant else {}
            screened, calm = self._screen(tenant)
        chosen = affordable(suspects(latest, screened, slower), period_us=self._period_us)
        known = self._ask(tenant, calm, at_us, chosen, paths=len(chosen))
        with self._lock:
            self._key, self._known = key, known
        return known

    def of_pairs(self, tenant: str, pairs: Collection[Pair], at_us: int) -> Usual:
        """What was usual on some paths, by the days before a moment of the past."""
        return (
            self._look(tenant, {}, at_us, pairs, since=max(0, at_us - FEW_DAYS_US))
            if pairs
            else NOTHING_KNOWN
        )

    def of_large(self, tenant: str, at_us: int) -> Usual:
        """Tell what is usual on the paths that may be slower than it: of a million, no others are looked at.

        Looked at anew at most for a tenth of the time.
        """
        with self._lock:
            if self._clock() < self._look_again_s and self._key is not None and self._key[0] == tenant:
                return self._known
            slower = self._known.slower() if self._key and self._key[0] == tenant else {}
        began = self._clock()
        suspected = self._store.suspects(tenant, MOST_SUSPECTS)
        chosen = affordable([*sorted(slower), *suspected], period_us=self._period_us)[: 2 * MOST_SUSPECTS]
        known = self._ask(tenant, {}, at_us, chosen, paths=len(chosen)) if chosen else NOTHING_KNOWN
        with self._lock:
            self._key, self._known = (tenant, 0, at_us), known
            took_s = self._clock() - began
            self._look_again_s = began + max(LEAST_APART_S, 10 * took_s)
        return known

    def with_calm(self, tenant: str, usual: Usual, paths: Collection[Pair]) -> Usual:
        """Add what is usual on paths that nothing is the matter with."""
        unknown = [path for path in paths if path not in usual.paths]
        if not unknown or not self._store.usual_hour():
            return usual
        return replace(usual, paths={**known_of(self._store.usual(tenant, unknown)), **usual.paths})

    def _then(self, tenant: str, latest: Sequence[Reading], at_us: int) -> Usual:
        """As for now, screened by the rollups that there were then."""
        if len(latest) > THEN_PATHS:
            return NOTHING_KNOWN
        rows = self._store.usual_at(tenant, at_us)
        screened = {(row.src, row.dst): row for row in rows}
        chosen = affordable(suspects(latest, screened), period_us=self._period_us)
        return self._ask(tenant, known_of(rows), at_us, chosen, paths=len(chosen))

    def _screen(self, tenant: str) -> tuple[Mapping[Pair, Screened], Mapping[Pair, Known]]:
        """Take what is usual on the paths that nothing is the matter with, read once an hour."""
        version = (tenant, self._store.usual_hour())
        if version != self._screened_of:
            rows = self._store.usual(tenant)
            self._screened = {(row.src, row.dst): row for row in rows}
            self._calm = known_of(rows)
            self._screened_of = version
        return self._screened, self._calm

    def _ask(
        self,
        tenant: str,
        calm: Mapping[Pair, Known],
        at_us: int,
        chosen: Collection[Pair] | None,
        *,
        paths: int,
    ) -> Usual:
        """Look at the chosen paths test by test; ``None``: at all, where that is affordable."""
        since = since_us(at_us, paths=paths, period_us=self._period_us)
        return NOTHING_KNOWN if since is None else self._look(tenant, calm, at_us, chosen, since=since)

    def _look(
        self,
        tenant: str,
        calm: Mapping[Pair, Known],
        at_us: int,
        chosen: Collection[Pair] | None,
        *,
        since: int,
    ) -> Usual:
        closely = usual_of(self._store.past(tenant, since_us=since, at_us=at_us, paths=chosen))
        known = Usual({**calm, **closely})
        slower = known.slower()
        if not slower:
            return known
        both = {pair for src, dst in slower for pair in ((src, dst), (dst, src))}
        until_us = min(slower.values())
        hops = self._store.usual_hops(
            tenant, sorted(both), since_us=max(0, until_us - LEAST_SPAN_US), until_us=until_us
        )
        told = sorted(slower, key=slower.__getitem__, reverse=True)[:CALM_PATHS]
        before = self._store.readings_before(
            tenant,
            {pair for src, dst in told for pair in ((src, dst), (dst, src))},
            since_us=max(0, until_us - LEAST_SPAN_US),
            until_us=until_us,
            most=CALM_TESTS,
        )
        return replace(known, hops=usual_hops_of(hops), calm=calm_of(before))
