"""Which pairs a cycle tests, and how deeply: what each agent may spend decides. Pure.

The arithmetic and its measured costs stand in ``docs/design/003-mesh-budget.md``. Each agent has CPU time and
bytes to spend in a cycle (its own, or the fleet's: ``server.control``), each site has time on its uplink.
They are spent so:

1. Pairs that matter or that changed, in full where that fits, from at most half of it. A quarter is set
   apart of it at the ends of pairs that are watched between cycles (``watching``).
2. All others, lightly, the one that has waited longest first, from what is left.
3. What is still left makes light tests full ones, the longest not fully tested first.

Where everything fits, every pair is tested in full in every cycle. Where it does not, the second step makes a
bound: an agent that can afford q light tests from half its budget, in a fleet of n with a site each, is never
away from any peer for more than 2(n-2)/q + 1 cycles. For a pair is only passed over when an end has spent its
turn on pairs that had waited as long, there are 2(n-2) of those, and once tested they are behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from analytics.policy import Judged
from analytics.rollup import LIGHT_RTTS
from analytics.wire import ProbePlan
from server.history import History
from server.schedule import Pair, tournament

US_PER_S: Final = 1_000_000
HOUR_S: Final = 3_600

# Of one end, measured by scripts/bench mesh (docs/design/003-mesh-budget.md).
SETUP_CPU_US: Final = 12_500
PROBE_CPU_US: Final = 600  # our request and its reply, and the peer's
HOP_CPU_US: Final = 800
TRAIN_CPU_US: Final = 15_000
SETUP_BYTES: Final = 6_000  # checks, handshake, signalling, the reading on its way to the server
PROBE_BYTES: Final = 2 * 120  # a request of ours and a reply of ours, as DTLS records with IP headers
HOP_BYTES: Final = 60
SETUP_WALL_US: Final = 700_000
TRAIN_WALL_US: Final = 1_000_000  # both directions, one after the other
HOP_WALL_US: Final = 500_000  # the wait for the last answer
USUAL_HOPS: Final = 10

ATTENTION_SHARE: Final = 0.5
"""Of a budget that pairs which matter or changed may take before the others have had theirs."""
WATCH_SHARE: Final = 0.25
"""Of a budget that watched pairs' tests between cycles may take, from the half for attention."""
UPLINK_SHARE: Final = 0.9
"""Of a cycle's time that tests may fill on a site: they differ in length, and some fail slowly."""

ALLOWED: Final = Judged((), {}, 0)
"""The policy of who has none."""

LIGHT_PROBES: Final = 60
"""A 95th percentile needs 59; a path on which even one is lost gets a full test next."""
QUICK_PROBES: Final = 80
FLEET_PROBES: Final = 40
WATCH_PROBES: Final = LIGHT_RTTS
"""No more: else what is watched would count as what is usual."""
QUICK_INTERVAL_US: Final = 10_000


class Cost(NamedTuple):
    """What one test takes, of each end."""

    cpu_us: int
    bytes: int
    wall_us: int


class Budget(NamedTuple):
    """What there is to spend in one cycle: CPU and bytes of each agent, time of each site's uplink."""

    cpu_us: int
    bytes: int
    wall_us: int


class Choice(NamedTuple):
    """A pair that this cycle tests, and how deeply."""

    pair: Pair
    full: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths:
    """The plans of a test: in full, lightly, on demand for one pair or for a whole fleet, between cycles."""

    full: ProbePlan
    light: ProbePlan
    quick: ProbePlan
    fleet: ProbePlan
    watch: ProbePlan


def depths(full: ProbePlan) -> Depths:
    """Derive the other plans from the full one; none is larger than it."""

    def lighter(probes: int, hop_rounds: int, **more: int) -> ProbePlan:
        return msgspec.structs.replace(
            full,
            **more,
            probes=min(full.probes, probes),
            interval_us=min(full.interval_us, QUICK_INTERVAL_US),
            hop_rounds=min(full.hop_rounds, hop_rounds),
            trains=0,
        )

    return Depths(
        full=full,
        light=lighter(LIGHT_PROBES, 1),
        quick=lighter(QUICK_PROBES, 1, mtu_every=0),
        fleet=lighter(FLEET_PROBES, 0, mtu_every=0),
        watch=lighter(WATCH_PROBES, 0, mtu_every=0),
    )


def cost_of(plan: ProbePlan) -> Cost:
    """Estimate what a test by this plan takes of each end."""
    hops = plan.hop_rounds * min(plan.max_ttl, USUAL_HOPS)
    train_bytes = plan.trains * plan.train_packets * plan.train_bytes
    pacing_us = plan.probes * plan.interval_us
    tracing_us = plan.hop_rounds * plan.hop_interval_us + HOP_WALL_US if plan.hop_rounds else 0
    return Cost(
        cpu_us=SETUP_CPU_US + plan.probes * PROBE_CPU_US + hops * HOP_CPU_US + plan.trains * TRAIN_CPU_US,
        bytes=SETUP_BYTES + plan.probes * PROBE_BYTES + hops * HOP_BYTES + train_bytes,
        wall_us=SETUP_WALL_US + max(pacing_us, tracing_us) + plan.trains * TRAIN_WALL_US,
    )


def budget_of(*, period_s: float, cpu_bp: int, bytes_per_hour: int) -> Budget:
    """Say what a cycle has to spend. ``cpu_bp``: of one core, in basis points."""
    return Budget(
        cpu_us=round(period_s * US_PER_S * cpu_bp / 10_000),
        bytes=round(bytes_per_hour * period_s / HOUR_S),
        wall_us=round(period_s * US_PER_S * UPLINK_SHARE),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What a cycle is chosen from."""

    sites: Mapping[str, str]
    history: Mapping[Pair, History] = field(default_factory=dict)
    important: Set[str | Pair] = frozenset()  # agents all of whose pairs matter, and single pairs
    dearness: Mapping[str, float] = field(default_factory=dict)  # CPU of a test there / as estimated
    watched: Set[Pair] = frozenset()  # tested between cycles (server/watching.py)
    budgets: Mapping[str, Budget] = field(default_factory=dict)  # of agents that have one of their own
    policy: Judged = ALLOWED  # pairs that it bars are never chosen
    again: Sequence[tuple[Pair, Cost]] = ()  # tests of this cycle's beside those that it chose

    def matters(self, pair: Pair) -> bool:
        """Say whether somebody marked this pair, or an end of it."""
        return not self.important.isdisjoint((pair, *pair))


def choose(
    fleet: Fleet,
    depths: Depths,
    budget: Budget,
    *,
    seed: int,
    already: Mapping[Pair, bool] | None = None,
) -> list[Choice]:
    """Choose a cycle's tests, those that matter first; the same fleet, budget and seed give the same choice.

    ``seed`` decides between pairs that have waited equally long. ``already`` are the pairs that this cycle
    has (pair -> in full), where agents join it: their cost is spent, and they are not chosen again.
    """
    already = already or {}
    waiting = [
        pair
        for pair in _longest_waiting_first(fleet, seed)
        if pair not in already and not fleet.policy.bars(*pair)
    ]
    light, full = cost_of(depths.light), cost_of(depths.full)
    purse = purse_after(fleet, depths, budget, already)
    first = [pair for pair in waiting if fleet.matters(pair)]
    first += [pair for pair in waiting if _attention(fleet, pair) and not fleet.matters(pair)]
    chosen = _spend_on_attention(first, purse, light, full)
    for pair in waiting:
        if pair not in chosen and purse.pay(pair, light):
            chosen[pair] = False
    _deepen(chosen, fleet, purse, light, full)
    return [Choice(pair, is_full) for pair, is_full in chosen.items()]


def _longest_waiting_first(fleet: Fleet, seed: int) -> list[Pair]:
    known = fleet.history

    def tested_us(pair: Pair) -> int:
        found = known.get(pair)
        return found.tested_us if found else 0

    return sorted(tournament(fleet.sites, seed=seed), key=tested_us)


def _attention(fleet: Fleet, pair: Pair) -> int:
    found = fleet.history.get(pair)
    return found.attention if found else 0


def _spend_on_attention(pairs: Iterable[Pair], purse: Purse, light: Cost, full: Cost) -> dict[Pair, bool]:
    """Step 1: in full where that fits, else lightly, within the share of it."""
    purse.share = ATTENTION_SHARE
    chosen = {}
    for pair in pairs:
        if purse.pay(pair, full):
            chosen[pair] = True
        elif purse.pay(pair, light):
            chosen[pair] = False
    purse.share = 1.0
    return chosen


def _deepen(chosen: dict[Pair, bool], fleet: Fleet, purse: Purse, light: Cost, full: Cost) -> None:
    """Step 3: spend what is left."""
    more = Cost(*(deep - shallow for deep, shallow in zip(full, light, strict=True)))

    def full_us(pair: Pair) -> int:
        found = fleet.history.get(pair)
        return found.full_us if found else 0

    for pair in sorted((pair for pair, is_full in chosen.items() if not is_full), key=full_us):
        if purse.pay(pair, more):
            chosen[pair] = True


def purse_after(fleet: Fleet, depths: Depths, budget: Budget, already: Mapping[Pair, bool]) -> Purse:
    """Count up what a cycle's tests leave: ``already`` (pair -> in full), and those it had once more."""
    light, full = cost_of(depths.light), cost_of(depths.full)
    purse = Purse(fleet, budget)
    purse.set_apart(fleet.watched, WATCH_SHARE)
    for pair, is_full in already.items():
        purse.spend(pair, full if is_full else light)
    for pair, cost in fleet.again:
        purse.spend(pair, cost)
    return purse


class Purse:
    """What agents and sites have spent in one cycle."""

    def __init__(self, fleet: Fleet, budget: Budget) -> None:
        self.share = 1.0  # of the budget that may be spent now
        self._fleet = fleet
        self._budget = budget
        self._cpu_us = dict.fromkeys(fleet.sites, 0.0)
        self._bytes = dict.fromkeys(fleet.sites, 0)
        self._wall_us = dict.fromkeys(fleet.sites.values(), 0)

    def set_apart(self, pairs: Iterable[Pair], share: float) -> None:
        """Keep a share of the budget of the pairs' agents and sites for what is not of the cycle."""
        agents = {agent for pair in pairs for agent in pair if agent in self._fleet.sites}
        for agent in agents:
            budget = self._of(agent)
            self._cpu_us[agent] += share * budget.cpu_us
            self._bytes[agent] += round(share * budget.bytes)
        for site in {self._fleet.sites[agent] for agent in agents}:
            self._wall_us[site] += round(share * self._budget.wall_us)

    def pay(self, pair: Pair, cost: Cost) -> bool:
        """Spend a test's cost at both ends; False, and nothing spent, where one of them cannot."""
        affordable = all(self._affords(agent, cost) for agent in pair)
        if not (affordable and all(self._has_time(site, cost) for site in self._sites_of(pair))):
            return False
        self.spend(pair, cost)
        return True

    def spend(self, pair: Pair, cost: Cost) -> None:
        """Spend it, come what may."""
        for agent in pair:
            self._cpu_us[agent] = self._cpu_us.get(agent, 0) + self._cpu(agent, cost)
            self._bytes[agent] = self._bytes.get(agent, 0) + cost.bytes
        for site in self._sites_of(pair):
            self._wall_us[site] += cost.wall_us

    def _sites_of(self, pair: Pair) -> set[str]:
        """Name the sites of a pair; an agent that has left has none any more."""
        return {self._fleet.sites[agent] for agent in pair if agent in self._fleet.sites}

    def _affords(self, agent: str, cost: Cost) -> bool:
        budget = self._of(agent)
        return (
            self._cpu_us[agent] + self._cpu(agent, cost) <= self.share * budget.cpu_us
            and self._bytes[agent] + cost.bytes <= self.share * budget.bytes
        )

    def _of(self, agent: str) -> Budget:
        return self._fleet.budgets.get(agent, self._budget)

    def _has_time(self, site: str, cost: Cost) -> bool:
        return self._wall_us[site] + cost.wall_us <= self.share * self._budget.wall_us

    def _cpu(self, agent: str, cost: Cost) -> float:
        return cost.cpu_us * self._fleet.dearness.get(agent, 1.0)


# --- what a test really costs somewhere ------------------------------------------------------------------

DEAREST: Final = 20.0
CHEAPEST: Final = 0.1
LEARNING: Final = 0.2
"""Weight of a new test against all before it."""


def learned(dearness: float, *, estimated_us: int, measured_us: int) -> float:
    """Bring an agent's dearness towards what its latest test cost: hosts differ tenfold in speed."""
    told = min(max(measured_us / estimated_us, CHEAPEST), DEAREST)
    return dearness + LEARNING * (told - dearness)


def cycles_to_see_all(pairs: int, chosen: int) -> int:
    """Say how many cycles like this one visit every pair; 1 where nothing was put off."""
    return max(1, -(-pairs // chosen)) if chosen else max(1, pairs)
