"""A tenant's policy at work: which pairs may be tested now, how much of a test, and how many an hour.

The one place that the runner of the plan asks (``server.cycles``): for cycles, watched pairs, tests on demand
and grants alike. What rules mean is in ``analytics.policy``; this adds the fleet, the clock and the count.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from analytics.clock import now_us
from analytics.policy import (
    ALL_ALLOWED,
    NOT_TESTED,
    Judged,
    Limits,
    Policy,
    Ruling,
    Who,
    has_hours,
    within,
    without_lost_zones,
)
from analytics.wire import ProbePlan
from server.budget import ALLOWED
from server.schedule import Pair

log: Final = logging.getLogger("pathgrade.server.policing")

HOUR_S: Final = 3_600.0
MINUTE_US: Final = 60_000_000

Tags = Mapping[str, Sequence[str]]


class Allowed(NamedTuple):
    """A test as the policy allows it."""

    plan: ProbePlan
    rule: str


class Policing:
    """For one thread, but for ``judged``, whose answer any thread may use."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        sites: Callable[[], Mapping[str, str]],
        wall_us: Callable[[], int] = now_us,
        tags: Callable[[], Tags] = dict,
    ) -> None:
        self._clock = clock
        self._wall_us = wall_us
        self._sites = sites  # agent -> site
        self._tags = tags
        self._began: dict[Pair, deque[float]] = {}  # tests of the last hour, of pairs whose rule counts them
        self._known: tuple[object, Judged] | None = None
        self.policy = ALL_ALLOWED

    @property
    def policy(self) -> Policy:
        """The policy as it was set."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        """Put a policy to work. A zone that the host has lost since it was set ends no server."""
        rules, lost = without_lost_zones(policy.rules)
        for rule in lost:
            log.error(
                "policy rule %s: its time zone is not known here: it denies always or never allows", rule
            )
        self._policy, self._rules = policy, rules

    def judged(self, at_us: int | None = None) -> Judged:
        """What the policy says of the fleet now, or at another moment; the same object while it holds."""
        now = self._wall_us() if at_us is None else at_us
        if not self._rules:
            return ALLOWED
        minute = now // MINUTE_US if has_hours(self._rules) else 0
        sites, tags = self._sites(), self._tags()
        key = (self.policy, minute, dict(sites), {name: [*own] for name, own in tags.items()})
        if self._known is not None and self._known[0] == key:
            return self._known[1]
        agents = {name: Who(name, site, frozenset(tags.get(name, ()))) for name, site in sites.items()}
        made = Judged(self._rules, agents, now)
        if at_us is None:
            self._known = (key, made)
        return made

    def refusal(self, pair: Pair, judged: Judged) -> str:
        """Say why a pair may not be tested now, naming the rule; empty where it may.

        ``judged`` is what ``judged()`` gives, asked for once for many pairs: it looks at the whole fleet.
        """
        ruling = judged.of(*pair)
        if not ruling.allowed:
            return barred(ruling.rule)
        most = ruling.limits.tests_per_hour
        began = self._lately(pair)
        if most is None or len(began) < most:
            return ""
        minutes = max(1, -int(-(began[-most] + HOUR_S - self._clock()) // 60))
        return f"{barred(ruling.rule)}: {most} an hour, the next in {minutes} min"

    def begin(self, pair: Pair, plan: ProbePlan, judged: Judged) -> Allowed:
        """Cut the plan of a test that begins now down to what is allowed, and count it."""
        ruling = judged.of(*pair)
        if ruling.limits.tests_per_hour is not None:
            self._began.setdefault(pair, deque()).append(self._clock())
        return Allowed(within(plan, ruling.limits), ruling.rule)

    def counted(self, pair: Pair) -> int:
        """Tests of a pair in the last hour, where its rule counts them."""
        return len(self._lately(pair))

    def _lately(self, pair: Pair) -> deque[float]:
        began = self._began.get(pair)
        if began is None:
            return deque()
        while began and began[0] <= self._clock() - HOUR_S:
            began.popleft()
        if not began:
            del self._began[pair]
        return began


def barred(rule: str) -> str:
    """Say that a rule is why a pair has no test."""
    return f"{NOT_TESTED} by policy {rule}"


def says(ruling: Ruling) -> str:
    """Put a ruling into words."""
    if not ruling.allowed:
        return f"may not test each other: rule {ruling.rule}"
    by = f"rule {ruling.rule}" if ruling.rule else "no rule is about them"
    most = ", ".join(_limits(ruling.limits))
    return f"may test each other: {by}" + (f"; at most {most}" if most else "")


def _limits(limits: Limits) -> list[str]:
    told = (
        (limits.tests_per_hour, "tests an hour"),
        (limits.probes, "probes a test"),
        (limits.bytes, "bytes a test from each end"),
    )
    return [f"{value:,} {what}" for value, what in told if value is not None]
