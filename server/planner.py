"""What the server knows for planning cycles: histories, marks, what tests cost; and the cycle that it chose.

Keeps state and nothing else: what is chosen from it is up to ``server.budget``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from random import Random
from typing import Final, NamedTuple

from analytics.measurement import Rung
from analytics.policy import Judged
from analytics.wire import ProbePlan, TestEnded
from server.api.controls import BudgetNow
from server.budget import (
    ALLOWED,
    Budget,
    Choice,
    Cost,
    Depths,
    Fleet,
    Purse,
    choose,
    cost_of,
    cycles_to_see_all,
    learned,
    purse_after,
)
from server.control import NO_LIMITS, Limits, own_budgets
from server.history import History, Outcome, after, between_cycles, worse
from server.schedule import Pair
from server.watching import Watching

_SEEDS: Final = 2**32
CHOSEN_FROM_A_SECOND: Final = 5_000
"""Changed pairs: a hundredth of the time goes into choosing of them which are watched."""


UNSET: Final = BudgetNow(cpu_bp=80, bytes_per_hour=36_000_000)


class Asked(NamedTuple):
    """All that a choice is made from, taken at one moment: it may be made in a thread."""

    fleet: Fleet
    already: Mapping[Pair, bool]
    seed: int


class Planner:
    """Plans cycles, one after the other. For one thread, but for ``choose``."""

    def __init__(
        self,
        depths: Depths,
        budget: Budget,
        random: Random,
        *,
        period_s: float = 300,
        watch_s: float = 0,
        setting: BudgetNow = UNSET,
    ) -> None:
        self.depths = depths
        self.watching = Watching(depths, budget, period_s=period_s, interval_s=watch_s)
        self.important: set[str | Pair] = set()
        self.limits: Limits = NO_LIMITS  # budgets of agents and sites, instead of the setting
        self.setting = setting  # what ``budget`` was derived from
        self.policy: Callable[[], Judged] = lambda: ALLOWED  # what may be tested now
        self._barred = 0  # pairs of this cycle's agents that may not
        self._period_s = period_s
        self.history: dict[Pair, History] = {}
        self.cycles_for_all = 1
        self._budget = budget
        self._random = random
        self._chosen: dict[Pair, bool] = {}  # of the running or the latest cycle: pair -> in full
        self._again: list[tuple[Pair, Cost]] = []  # what was tested once more since it began
        self._left: Purse | None = None  # after all of that; None: not counted up yet
        self._sites: dict[str, str] = {}
        self._dearness: dict[str, float] = {}
        self._changed: set[Pair] = set()  # pairs with attention left
        self._changes = 0  # how often that set changed
        self._watched_for: object = None  # what the watched pairs were chosen from
        self._marked_for: frozenset[str | Pair] = frozenset()  # and the marks then
        self._policy = self._watched_policy = ALLOWED
        self._choose_from_s = 0.0

    def ask(self, sites: Mapping[str, str], *, joining: bool = False) -> Asked:
        """Collect what the next choice is made from; ``joining``: more for the cycle that runs."""
        fleet = self._now(sites, self._again if joining else ())
        return Asked(fleet, self._chosen.copy() if joining else {}, self._random.randrange(_SEEDS))

    def choose(self, asked: Asked) -> list[Choice]:
        """Choose; takes a second for a thousand agents."""
        return choose(asked.fleet, self.depths, self._budget, seed=asked.seed, already=asked.already)

    def holds(self, asked: Asked, sites: Mapping[str, str], *, joining: bool) -> bool:
        """Say whether it is still so: of these agents, and of all that the cycle has by now."""
        chosen, again = (self._chosen, tuple(self._again)) if joining else ({}, ())
        return (asked.fleet.sites, asked.already, asked.fleet.again) == (sites, chosen, again)

    def take(self, asked: Asked, choices: list[Choice]) -> list[Pair]:
        """Make a choice the cycle's own, or add it to it; returns its pairs, those that matter first."""
        self._chosen = {**asked.already, **dict(choices)}
        self._sites = dict(asked.fleet.sites)
        self._again, self._left = list(asked.fleet.again), None
        self._doubt_what_was_not_tested()
        self._policy = asked.fleet.policy
        self._barred = self._policy.barred(self._sites)
        pairs = len(self._sites) * (len(self._sites) - 1) // 2 - self._barred
        self.cycles_for_all = cycles_to_see_all(pairs, len(self._chosen))
        return [choice.pair for choice in choices]

    def leave(self, agents: Set[str], pairs: Iterable[Pair]) -> None:
        """Let agents out of the running cycle, in which these pairs of theirs were not tested."""
        for pair in pairs:
            self._chosen.pop(pair, None)
        for agent in agents:
            self._sites.pop(agent, None)
        self._left = None

    def once_more(self, pair: Pair) -> ProbePlan | None:
        """Say how deeply a pair can be tested once more from what this cycle leaves, and spend that.

        None: there is no room, or an end is not of this cycle.
        """
        if not {*pair} <= self._sites.keys():
            return None
        if self._left is None:
            fleet = self._now(self._sites, self._again)
            self._left = purse_after(fleet, self.depths, self._budget, self._chosen)
        for plan in (self.plan_of(pair), self.depths.light):
            if self._left.pay(pair, cost_of(plan)):
                self._again.append((pair, cost_of(plan)))
                return plan
        return None

    def plan_of(self, pair: Pair) -> ProbePlan:
        """Say how deeply this cycle tests a pair."""
        return self.depths.full if self._chosen.get(pair) else self.depths.light

    def puts_off(self, one: str, other: str) -> bool:
        """Say whether the budget had no room for a pair in this cycle."""
        both_in = one in self._sites and other in self._sites
        put_off = both_in and Pair(*sorted((one, other))) not in self._chosen
        return put_off and not self._policy.bars(one, other)

    def put_off(self) -> int:
        """Count the pairs that the budget had no room for in this cycle."""
        pairs = len(self._sites) * (len(self._sites) - 1) // 2
        return max(0, pairs - self._barred - len(self._chosen))

    def look_at_watched(self, sites: Mapping[str, str], now_s: float) -> None:
        """Choose the watched pairs anew if anything that decides on them is different.

        A mark counts at once; of thousands that changed there is a choice every few seconds, not at the end
        of each test: it holds up everything else.
        """
        marked = frozenset(self.important)
        if now_s < self._choose_from_s and marked == self._marked_for:
            return
        policy = self.policy()
        fresh = (dict(sites), marked, self._changes, self.limits, id(policy))
        if fresh != self._watched_for:
            self._watched_for, self._marked_for = fresh, marked
            self._choose_from_s = now_s + len(self._changed) / CHOSEN_FROM_A_SECOND
            fleet = Fleet(
                sites=fresh[0],
                important=marked,
                dearness=self._dearness.copy(),
                budgets=self._budgets(sites),
                policy=policy,
            )
            self._watched_policy = policy  # kept, so that its id stays its own
            self.watching.choose(fleet, self._changed, now_s)

    def note(
        self,
        pair: Pair,
        plan: ProbePlan,
        ends: Mapping[str, TestEnded],
        at_us: int,
        *,
        full: bool,
        between: bool = False,
    ) -> None:
        """Learn from a test that both ends have ended; ``between`` cycles: it is no turn of the pair.

        ``full``: it is the pair's test in full, although a policy may have left less of its ``plan``.
        """
        outcomes = [_outcome(ends[agent], at_us, full=full) for agent in pair]
        step = between_cycles if between else after
        self.history[pair] = step(self.history.get(pair), worse(*outcomes))
        if bool(self.history[pair].attention) is not (pair in self._changed):
            self._changed ^= {pair}
            self._changes += 1
        for agent in pair:
            self._learn(agent, plan, ends[agent])

    def _now(self, sites: Mapping[str, str], again: Iterable[tuple[Pair, Cost]]) -> Fleet:
        """Take all that decides on a choice, as it is."""
        return Fleet(
            sites=dict(sites),
            history=self.history.copy(),
            important=frozenset(self.important),
            dearness=self._dearness.copy(),
            watched=frozenset(self.watching.pairs),
            budgets=self._budgets(sites),
            policy=self.policy(),
            again=tuple(again),
        )

    def _budgets(self, sites: Mapping[str, str]) -> Mapping[str, Budget]:
        return own_budgets(self.limits, sites, self.setting, self._period_s)

    def _doubt_what_was_not_tested(self) -> None:
        """Go back to the estimate, step by step, where a host became too dear for any test."""
        tested = {agent for pair in self._chosen for agent in pair}
        for agent in self._dearness.keys() - tested:
            self._dearness[agent] = learned(self._dearness[agent], estimated_us=1, measured_us=1)

    def _learn(self, agent: str, plan: ProbePlan, ended: TestEnded) -> None:
        if ended.cpu_us is not None and ended.rung is not Rung.NONE:
            self._dearness[agent] = learned(
                self._dearness.get(agent, 1.0),
                estimated_us=cost_of(plan).cpu_us,
                measured_us=ended.cpu_us,
            )


def _outcome(ended: TestEnded, at_us: int, *, full: bool) -> Outcome:
    return Outcome(
        at_us=at_us,
        full=full,
        rung=Rung.NONE if ended.error else ended.rung,
        rtt_us=ended.rtt_p50_us,
        loss_bp=ended.loss_bp,
    )
