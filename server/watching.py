"""Which pairs are tested between cycles, how often and how deeply. Nothing here sends, waits or asks a clock.

A pair that begins to be watched is tested in full. Then it has a light test every ``interval_s``. One that
says something else than those before it, or that lost a packet, is followed soon by deeper ones with hops,
until they agree with what was known, or until what they say is no longer new. What all of that may cost is a
share of each agent's budget and of each site's time (``budget.WATCH_SHARE``), kept as a purse that fills
steadily: most of it pays for the light tests, and decides how many pairs can be watched; the rest is saved up
for deeper ones. A pair that cannot be afforded is not watched, and that is said.

Why tests, and no connections that are held open: ``docs/design/006-time.md``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain
from statistics import median
from types import MappingProxyType
from typing import Final, NamedTuple

from analytics.measurement import Rung
from analytics.wire import ProbePlan, TestEnded
from server.budget import WATCH_SHARE, Budget, Cost, Depths, Fleet, cost_of
from server.schedule import Pair

LIGHT_SHARE: Final = 0.85
"""Of what watching may cost: for light tests. The rest is saved for deeper ones."""
DEEPER: Final = 6
"""Deeper tests in a row: four make a letter, and more tell a loss of 2 % from chance."""
SOON_S: Final = 8.0
"""From the end of a test to the next deeper one: what lasts for ten seconds is no change."""
AGAIN: Final = 2
"""After a test that failed: three in a row are a path that nobody gets through."""
REST: Final = 3
"""While a path fails, it is left alone for so many times as its last test took: failing takes long."""
MOVED_US: Final = 1_000
MOVED_BP: Final = 1_000
"""A median round trip that is by so much, and by a tenth, from those before is looked at again."""
REMEMBERED: Final = 5
"""Light tests whose median is what is known of a path."""


class Rates(NamedTuple):
    """What watching may take: CPU and bytes of each agent, time of each site, in a second."""

    cpu_us: float
    bytes: float
    wall_us: float


def rates_of(budget: Budget, period_s: float) -> Rates:
    """Derive them from the budget of a cycle."""
    return Rates(*(WATCH_SHARE * amount / period_s for amount in budget))


def candidates(fleet: Fleet, changed: Iterable[Pair], watched: Set[Pair] = frozenset()) -> list[Pair]:
    """Name the pairs to be watched, those first that come first: marked ones, then those that changed.

    Of equal rank, those that are watched already come first: a pair watched in turns is not watched.
    """
    online = fleet.sites.keys()
    pairs = [pair for pair in fleet.important if isinstance(pair, Pair)]
    agents = sorted(name for name in fleet.important if isinstance(name, str) and name in online)
    of_agents = [Pair(*sorted((agent, peer))) for agent in agents for peer in online if peer != agent]
    ranked = chain.from_iterable(
        sorted(group, key=lambda pair: (pair not in watched, pair)) for group in (pairs, of_agents, changed)
    )
    return [pair for pair in dict.fromkeys(ranked) if {*pair} <= online and not fleet.policy.bars(*pair)]


def affordable(
    wanted: Sequence[Pair],
    fleet: Fleet,
    rates: Rates,
    light: Cost,
    interval_s: float,
    *,
    own: Mapping[str, Rates] = MappingProxyType({}),
) -> list[Pair]:
    """Choose the pairs whose light tests the ends and their sites can afford, the first ones first.

    ``own`` are the rates of agents that have a budget of their own.
    """

    def of(agent: str) -> Rates:
        return own.get(agent, rates)

    cpu_us = dict.fromkeys(fleet.sites, 0.0)
    sent = dict.fromkeys(fleet.sites, 0.0)
    wall_us = dict.fromkeys(fleet.sites.values(), 0.0)
    chosen = []
    for pair in wanted:
        costs = {agent: cpu_us[agent] + light.cpu_us * fleet.dearness.get(agent, 1.0) for agent in pair}
        sites = {fleet.sites[agent] for agent in pair}
        fits = (
            all(cost <= LIGHT_SHARE * of(agent).cpu_us * interval_s for agent, cost in costs.items())
            and all(sent[agent] + light.bytes <= LIGHT_SHARE * of(agent).bytes * interval_s for agent in pair)
            and all(
                wall_us[site] + light.wall_us <= LIGHT_SHARE * rates.wall_us * interval_s for site in sites
            )
        )
        if fits:
            chosen.append(pair)
            cpu_us |= costs
            sent |= {agent: sent[agent] + light.bytes for agent in pair}
            wall_us |= {site: wall_us[site] + light.wall_us for site in sites}
    return chosen


@dataclass(slots=True)
class Pace:
    """When a pair is tested next, and how deeply."""

    next_s: float
    light_s: float  # the next light test, whatever else comes
    fresh: bool = True  # was not tested yet since it is watched
    began_s: float = 0.0  # the latest test
    failing: bool = False
    deeper: int = 0  # tests that still follow soon
    known_us: deque[int] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def started(self, now_s: float, interval_s: float) -> None:
        """Note that a test begins; the next light one is due by the interval, not after the end."""
        self.fresh = False
        self.began_s = now_s
        self.light_s = self.next_s = now_s + interval_s

    def heard(self, ends: Iterable[TestEnded], now_s: float) -> None:
        """Take a test's outcome in; no ends: it was given up."""
        told = list(ends)
        failed = _failed(told)
        rtt_us = max((end.rtt_p50_us for end in told if end.rtt_p50_us is not None), default=None)
        odd = failed or any(end.loss_bp for end in told) or self._moved(rtt_us)
        if self.deeper:
            self.deeper = self.deeper - 1 if odd else 0
            if not self.deeper:
                self.known_us.clear()  # what it says now is what is known
        elif odd and not (failed and self.failing):
            self.deeper = AGAIN if failed else DEEPER
        self.failing = failed
        if rtt_us is not None and not self.deeper:
            self.known_us.append(rtt_us)
        self._set_next(now_s)

    def _set_next(self, now_s: float) -> None:
        if self.failing and not self.deeper:
            self.light_s = max(self.light_s, now_s + REST * (now_s - self.began_s))
        self.next_s = min(self.light_s, now_s + SOON_S) if self.deeper else self.light_s

    def _moved(self, rtt_us: int | None) -> bool:
        if rtt_us is None or not self.known_us:
            return False
        known_us = median(self.known_us)
        step_us = abs(rtt_us - known_us)
        return step_us >= MOVED_US and 10_000 * step_us >= MOVED_BP * known_us


def _failed(ends: Sequence[TestEnded]) -> bool:
    return not ends or any(end.rung is Rung.NONE or end.error for end in ends)


class Purses:
    """What each agent has saved up for watching: never more than a cycle's worth."""

    def __init__(self, rates: Rates, period_s: float) -> None:
        self._rates = rates
        self._period_s = period_s
        self.own: Mapping[str, Rates] = {}  # of agents that have a budget of their own
        self._spent: dict[str, tuple[float, float, float]] = {}  # agent -> CPU, bytes, as of when

    def pays(
        self, agents: Mapping[str, float], cost: Cost, now_s: float, *, left: Cost | None = None
    ) -> bool:
        """Say whether all agents (with the dearness of each) can pay, and have ``left`` after it."""
        return all(self._can(agent, dearness, cost, left, now_s) for agent, dearness in agents.items())

    def pay(self, agents: Mapping[str, float], cost: Cost, now_s: float) -> None:
        """Spend it."""
        for agent, dearness in agents.items():
            cpu_us, sent = self._owes(agent, now_s)
            self._spent[agent] = (cpu_us + cost.cpu_us * dearness, sent + cost.bytes, now_s)

    def keep(self, agents: Set[str]) -> None:
        """Forget all others."""
        self._spent = {agent: spent for agent, spent in self._spent.items() if agent in agents}

    def _can(self, agent: str, dearness: float, cost: Cost, left: Cost | None, now_s: float) -> bool:
        cpu_us, sent = self._owes(agent, now_s)
        rates, spare = self._of(agent), left or Cost(0, 0, 0)
        return (
            cpu_us + (cost.cpu_us + spare.cpu_us) * dearness <= rates.cpu_us * self._period_s
            and sent + cost.bytes + spare.bytes <= rates.bytes * self._period_s
        )

    def _of(self, agent: str) -> Rates:
        return self.own.get(agent, self._rates)

    def _owes(self, agent: str, now_s: float) -> tuple[float, float]:
        """What was spent and has not filled up again."""
        cpu_us, sent, at_s = self._spent.get(agent, (0.0, 0.0, now_s))
        passed_s, rates = now_s - at_s, self._of(agent)
        return max(0.0, cpu_us - passed_s * rates.cpu_us), max(0.0, sent - passed_s * rates.bytes)


class Watching:
    """The watched pairs and when each is due. For one thread."""

    def __init__(self, depths: Depths, budget: Budget, *, period_s: float, interval_s: float) -> None:
        self._light, self._deeper, self._full = depths.watch, depths.quick, depths.full
        self._interval_s = interval_s
        self._period_s = period_s
        self._rates = rates_of(budget, period_s)
        self._purses = Purses(self._rates, period_s)
        self._paces: dict[Pair, Pace] = {}
        self._fleet = Fleet(sites={})
        self.left_out: frozenset[Pair] = frozenset()  # should be watched, but the budget has no room

    @property
    def pairs(self) -> Set[Pair]:
        """The pairs that are watched."""
        return self._paces.keys()

    def choose(self, fleet: Fleet, changed: Iterable[Pair], now_s: float) -> None:
        """Choose what is watched from now on; a pair that is new to it is due at once."""
        wanted = candidates(fleet, changed, self.pairs) if self._interval_s else []
        light = cost_of(self._light)
        own = {agent: rates_of(budget, self._period_s) for agent, budget in fleet.budgets.items()}
        chosen = affordable(wanted, fleet, self._rates, light, self._interval_s, own=own)
        self._fleet, self._purses.own = fleet, own
        self._paces = {pair: self._paces.get(pair) or Pace(now_s, now_s) for pair in chosen}
        self._purses.keep(fleet.sites.keys())
        self.left_out = frozenset(wanted) - frozenset(chosen)

    def due(self, now_s: float) -> Iterator[tuple[Pair, ProbePlan]]:
        """Name what should be tested now and can be paid, the longest overdue first.

        One after the other: what ``started`` says of the first is spent when the second is looked at.
        """
        late = [(pace.next_s, pair) for pair, pace in self._paces.items() if pace.next_s <= now_s]
        for _, pair in sorted(late):
            plan = self._payable(pair, now_s)
            if plan is not None:
                yield pair, plan

    def sites_of(self, pair: Pair) -> frozenset[str]:
        """Name the sites of a watched pair."""
        return frozenset(self._fleet.sites[agent] for agent in pair)

    def started(self, pair: Pair, plan: ProbePlan, now_s: float) -> None:
        """Note that a test of it begins, and what it costs."""
        self._purses.pay(self._dear(pair), cost_of(plan), now_s)
        self._paces[pair].started(now_s, self._interval_s)

    def passed_over(self, pair: Pair, now_s: float) -> None:
        """Note that a test of it may not begin: the next is due by the interval, and nothing is spent."""
        self._paces[pair].light_s = self._paces[pair].next_s = now_s + self._interval_s

    def heard(self, pair: Pair, ends: Mapping[str, TestEnded], now_s: float) -> None:
        """Take in how a test of a pair ended, whoever ordered it; no ends: it was given up."""
        pace = self._paces.get(pair)
        if pace is not None:
            pace.heard(ends.values(), now_s)

    def _payable(self, pair: Pair, now_s: float) -> ProbePlan | None:
        pace, agents = self._paces[pair], self._dear(pair)
        light = cost_of(self._light)
        if pace.fresh and self._purses.pays(agents, cost_of(self._full), now_s):
            return self._full
        if pace.deeper and self._purses.pays(agents, cost_of(self._deeper), now_s, left=light):
            return self._deeper
        if pace.light_s <= now_s and self._purses.pays(agents, light, now_s):
            return self._light
        return None

    def _dear(self, pair: Pair) -> dict[str, float]:
        return {agent: self._fleet.dearness.get(agent, 1.0) for agent in pair}
