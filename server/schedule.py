"""Who tests whom, and when: pure, so that the same fleet always gets the same plan.

Two tests must not share an agent (they would disturb each other's numbers) nor a site (they would share its
uplink). The pairs come from a round-robin tournament by the circle method, in which every agent meets every
other once; each pair then goes into the first slot in which both sites are free. Which of them a cycle tests
at all is up to ``server.budget``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Set
from random import Random
from typing import Final, NamedTuple

LOOK_AHEAD: Final = 4
"""Pairs looked at per agent when one may start, so that a fleet of thousands stays cheap to plan."""


class Pair(NamedTuple):
    """Two agents that test each other, in either order; the first one controls (RFC 8445 section 6.1.1)."""

    first: str
    second: str


def tournament(agents: Iterable[str], *, seed: int | None = None) -> list[Pair]:
    """Pair every agent with every other once, round by round (circle method).

    One agent stays, the others turn around the table; an odd one out sits a round out. ``seed`` has them take
    their seats in another order.
    """
    table: list[str | None] = [*sorted(agents)]
    if seed is not None:
        Random(seed).shuffle(table)  # noqa: S311  # a fair order, not a secret
    if len(table) % 2:
        table.append(None)
    pairs: list[Pair] = []
    for _ in range(len(table) - 1):
        half = len(table) // 2
        facing = zip(table[:half], reversed(table[half:]), strict=True)
        pairs += [Pair(*sorted((a, b))) for a, b in facing if a is not None and b is not None]
        table[1:] = [table[-1], *table[1:-1]]
    return pairs


def slots(sites: Mapping[str, str], pairs: Iterable[Pair] | None = None) -> list[list[Pair]]:
    """Plan a cycle for agents, given the site of each: in one slot no agent and no site appears twice.

    ``pairs`` are those to be tested (None: all), the first ones soonest. A pair within one site takes that
    site once.
    """
    taken = dict.fromkeys(sites.values(), 0)  # site -> one bit per slot
    planned: list[list[Pair]] = []
    for pair in tournament(sites) if pairs is None else pairs:
        ends = {sites[pair.first], sites[pair.second]}
        busy = 0
        for site in ends:
            busy |= taken[site]
        slot = _lowest_clear_bit(busy)
        for site in ends:
            taken[site] |= 1 << slot
        if slot == len(planned):
            planned.append([])
        planned[slot].append(pair)
    return planned


class Backlog:
    """The pairs of a cycle that have not started, in the order of the plan.

    Tests differ in length, so a slot is an order and not a clock: what can start, starts.
    """

    def __init__(self, sites: Mapping[str, str], pairs: Iterable[Pair] | None = None) -> None:
        """Plan these pairs; None: every pair of the agents."""
        self._sites = dict(sites)
        self._next: list[Pair] = []  # the few that are looked at
        self._later = deque(pair for slot in slots(sites, pairs) for pair in slot)

    def __len__(self) -> int:
        """How many pairs have not started."""
        return len(self._next) + len(self._later)

    def join(self, sites: Mapping[str, str], pairs: Iterable[Pair] | None = None) -> None:
        """Put pairs behind all others; ``sites`` are those of their agents, at least.

        None: let agents into the running cycle, with all their pairs, with each other and with all before.
        """
        new = set(sites) - set(self._sites)
        self._sites |= sites
        if pairs is None:
            pairs = [pair for pair in tournament(self._sites) if new & {*pair}]
        self._later.extend(pair for slot in slots(self._sites, pairs) for pair in slot)

    def again(self, pair: Pair) -> None:
        """Put a pair back, behind all others."""
        self._later.append(pair)

    def leave(self, agents: Set[str]) -> list[Pair]:
        """Forget the pairs with an end among these agents; gives them."""
        gone = [pair for pair in (*self._next, *self._later) if not agents.isdisjoint(pair)]
        self._next = [pair for pair in self._next if agents.isdisjoint(pair)]
        self._later = deque(pair for pair in self._later if agents.isdisjoint(pair))
        return gone

    @property
    def sites(self) -> set[str]:
        """The sites that something waits for."""
        return {self._sites[agent] for pair in (*self._next, *self._later) for agent in pair}

    def startable(self, busy: Set[str], most: int | None = None) -> list[Pair]:
        """Take the pairs that may start now, ``most`` at most, given the sites that are being tested."""
        while self._later and len(self._next) < LOOK_AHEAD * len(self._sites):
            self._next.append(self._later.popleft())
        occupied = set(busy)
        ready: list[Pair] = []
        waiting: list[Pair] = []
        for place, pair in enumerate(self._next):
            if len(ready) == most:
                waiting += self._next[place:]
                break
            ends = {self._sites[pair.first], self._sites[pair.second]}
            if ends & occupied:
                waiting.append(pair)
            else:
                ready.append(pair)
                occupied |= ends
        self._next = waiting
        return ready


def cycle_due(
    *, now_s: float, started_s: float | None, period_s: float, changed_s: float, settle_s: float
) -> bool:
    """Say whether a cycle should start: the period is over, and no agent came or went for ``settle_s``."""
    settled = now_s - changed_s >= settle_s
    return settled and (started_s is None or now_s - started_s >= period_s)


def _lowest_clear_bit(bits: int) -> int:
    return (~bits & (bits + 1)).bit_length() - 1
