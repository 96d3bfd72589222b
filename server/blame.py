"""Why workplaces could not use a service at a moment of the past: a report of that service's paths alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from analytics.grade import TEST_MOST_US, grade
from analytics.graded import Way
from analytics.letters import BAD
from analytics.measurement import Reading
from analytics.report import build_report
from analytics.rules.load import Rules
from analytics.shapes import Member
from analytics.sla import Cause
from analytics.sla_causes import causes_of
from analytics.store.store import Store
from analytics.usual import Pair
from server.usual import UsualCache

MOST_PAIRS: Final = 12
"""Of those that are bad, looked at test by test for what is usual on them."""


class Blame:
    """Asks the store what a report needs of one agent's paths; may be called from several threads."""

    def __init__(self, store: Store, usual: UsualCache, rules: Rules) -> None:
        self._store = store
        self._usual = usual
        self._rules = rules

    def causes(
        self, way: Way, at_us: int, workplaces: Sequence[str], members: Sequence[Member]
    ) -> Mapping[str, Cause]:
        """Tell why each of these could not use what is on the agent's host. Raises ``StoreError``."""
        since_us = max(0, at_us - self._rules.stale_after_s * 1_000_000 - TEST_MOST_US)
        readings = self._store.readings_latest_of_agent(way.tenant, way.agent, at_us, since_us=since_us)
        bad = self._bad(readings, way.profile, at_us)
        closely = [pair for pair in bad if not set(workplaces).isdisjoint(pair)][:MOST_PAIRS]
        tests = sorted({one.test for one in readings if (one.src, one.dst) in bad})
        report = build_report(
            tenant=way.tenant,
            profile=way.profile,
            readings=readings,
            hops=self._store.hops_of(way.tenant, tests, at_us),
            members=_with_strangers(members, readings),
            at_us=at_us,
            rules=self._rules,
            usual=self._usual.of_pairs(way.tenant, closely, at_us),
        )
        return causes_of(report, way.agent, workplaces)

    def _bad(self, readings: Sequence[Reading], profile: str, at_us: int) -> list[Pair]:
        """Paths that people cannot work over, both directions of each."""
        of = {(one.src, one.dst): one for one in readings}
        bad = [
            pair
            for pair, one in of.items()
            if grade(one, of.get(pair[::-1]), profile, self._rules, at_us).letter in BAD
        ]
        return list(dict.fromkeys(way for pair in bad for way in (pair, pair[::-1])))


def _with_strangers(members: Sequence[Member], readings: Sequence[Reading]) -> list[Member]:
    """Agents that are gone have their paths of then, each at a site of its own."""
    known = {member.name for member in members}
    gone = {end for one in readings for end in (one.src, one.dst)} - known
    return [*members, *(Member(name=name, site=name) for name in sorted(gone))]
