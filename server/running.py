"""What the runner of the plan works with: the plan itself, a test under way, sites that rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from analytics.wire import ProbePlan, TestEnded
from server.receipts import Receipts
from server.schedule import Pair
from server.turn import Relays


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the operator set about cycles and tests."""

    period_s: float
    settle_s: float
    deadline_s: int
    probe: ProbePlan
    stun: tuple[tuple[str | None, int], ...]  # host (None = as the agent reaches this server), port
    relays: Relays
    budget_cpu_bp: int = 80  # of one core, for each agent
    budget_bytes_per_hour: int = 36_000_000
    jitter_s: float = 0.0
    watch_s: float = 0.0  # from one light test of a watched pair to the next; 0 = none is watched
    tests_at_once: int = 200
    receipts: Receipts = Receipts.AUTO


@dataclass(slots=True, kw_only=True)
class RunningTest:
    """A test that both ends have been told of."""

    id: str
    pair: Pair
    cycle: int
    probe: ProbePlan
    sites: frozenset[str]
    unfinished: set[str]  # the ends that have not said that they are done
    overdue_s: float
    on_demand: bool
    full: bool  # as deep as a cycle's, however much the policy cut it down
    between: bool = False  # of a watched pair, between its turns in cycles
    ended: dict[str, TestEnded] = field(default_factory=dict)
    grant: bytes = b""
    rule: str = ""  # of the policy, that allowed it
    receipt: bool = False  # both ends are to sign

    def other(self, agent: str) -> str:
        """Name the end across from ``agent``."""
        return self.pair.second if agent == self.pair.first else self.pair.first


class Resting:
    """Sites that start nothing for a moment: tests of many sites must not begin all at once."""

    def __init__(self, jitter_s: float, random: Random, clock: Callable[[], float]) -> None:
        self._jitter_s = jitter_s
        self._random = random
        self._clock = clock
        self._until_s: dict[str, float] = {}

    def rest(self, site: str) -> None:
        """Leave a site alone for up to the jitter."""
        if self._jitter_s:
            self._until_s[site] = self._clock() + self._random.uniform(0, self._jitter_s)

    def sites(self) -> set[str]:
        """Name the sites that still rest."""
        now_s = self._clock()
        self._until_s = {site: until_s for site, until_s in self._until_s.items() if until_s > now_s}
        return set(self._until_s)

    def first_ready_s(self) -> float:
        """Say how long it is until the first of them is ready; only while there are any."""
        return min(self._until_s.values()) - self._clock()
