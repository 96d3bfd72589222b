"""What applications' sessions say of the fleet's paths, as the report needs it: asked of the store.

The sessions of the last minutes are asked for each report; what a PACS takes for an image is learnt from a
day's, and remembered for a while.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, NamedTuple

from analytics.addresses import book_of
from analytics.fetches import Waits, fetches_of, learnt
from analytics.fusion import NOTHING_SEEN, Passive, passive_of
from analytics.measurement import Reading
from analytics.rules.load import Rules, Study, StudyProfile
from analytics.shapes import Member, Service
from analytics.store.store import Store

TOLD_FOR_US: Final = 5_000_000
"""Flows come in windows of ten seconds: who loads several pages meanwhile is told the same."""
LEARNT_FOR_US: Final = 300_000_000
"""A PACS does not become another one in five minutes."""
MOST_FLOWS: Final = 20_000
"""Looked through for one report: 600 workplaces with a session in each window of five minutes."""


class _Asked(NamedTuple):
    """What an answer depends on, beside the moment and the flows."""

    members: list[Member]
    readings: int
    latest_us: int


class _Told(NamedTuple):
    """An answer that is remembered."""

    at_us: int
    asked: _Asked
    passive: Passive


class Sessions:
    """Asks and remembers; may be called from several threads."""

    def __init__(self, store: Store, rules: Rules, tenant: str) -> None:
        self._store = store
        self._rules = rules
        self._tenant = tenant
        self._lock = threading.Lock()
        self._told: dict[str, _Told] = {}
        self._learnt: dict[tuple[Service, Study], tuple[int, Waits | None]] = {}

    def of(
        self, profile: str, members: Sequence[Member], readings: Sequence[Reading], at_us: int, *, now: bool
    ) -> Passive:
        """Tell what sessions with the profile's services said; only what is learnt ``now`` is remembered."""
        services = [one for member in members for one in member.services if one.profile == profile]
        if not services:
            return NOTHING_SEEN
        asked = _Asked(list(members), len(readings), max((one.ended_us for one in readings), default=0))
        with self._lock:
            known = self._told.get(profile)
        if now and known is not None and known.asked == asked and 0 <= at_us - known.at_us < TOLD_FOR_US:
            return known.passive
        told = self._passive(profile, services, members, readings, at_us, now=now)
        if now:
            with self._lock:
                self._told[profile] = _Told(at_us, asked, told)
        return told

    def _passive(
        self,
        profile: str,
        services: Sequence[Service],
        members: Sequence[Member],
        readings: Sequence[Reading],
        at_us: int,
        *,
        now: bool,
    ) -> Passive:
        rule = self._rules.fusion
        flows = self._store.flows_of_services(
            self._tenant,
            {service.port for service in services},
            since_us=at_us - 2 * rule.within_s * 1_000_000,  # of windows, which begin before they count
            until_us=at_us,
            limit=MOST_FLOWS,
        )
        return passive_of(
            flows,
            book_of(members, readings, flows),
            services,
            rules=self._rules,
            at_us=at_us,
            learnt=self._learnt_of(profile, services, at_us, now=now),
        )

    def _learnt_of(
        self, profile: str, services: Sequence[Service], at_us: int, *, now: bool
    ) -> dict[str, Waits]:
        """What each agent's service takes for an image; of several on one host, what is known best."""
        wanted = self._rules.profile(profile)
        if not isinstance(wanted, StudyProfile):
            return {}
        found: dict[str, Waits] = {}
        for service in services:
            told = self._recall(service, wanted.study, at_us, now=now)
            if told is not None and (service.agent not in found or told.own.n > found[service.agent].own.n):
                found[service.agent] = told
        return found

    def _recall(self, service: Service, study: Study, at_us: int, *, now: bool) -> Waits | None:
        with self._lock:
            known = self._learnt.get((service, study))
        if now and known is not None and 0 <= at_us - known[0] < LEARNT_FOR_US:
            return known[1]
        told = self._ask(service, study, at_us)
        if now:
            with self._lock:
                self._learnt[service, study] = (at_us, told)
        return told

    def _ask(self, service: Service, study: Study, at_us: int) -> Waits | None:
        flows = self._store.flows_of_services(
            self._tenant,
            {service.port},
            since_us=at_us - self._rules.fusion.fetch_within_s * 1_000_000,
            until_us=at_us,
            agent=service.agent,
            limit=MOST_FLOWS,
        )
        return learnt(fetches_of(flows, port=service.port), study, self._rules.fusion)
