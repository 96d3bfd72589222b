"""Early turns: a pair whose very first test came to nothing has another within seconds. Sends nothing.

Somebody who has just installed an agent is looking, and the next cycle is minutes away. What makes a first
test fail often passes by itself: an agent that starts again once it is enrolled, a host that is still
compiling, a firewall that is being opened. A path that was ever tested well has no early turns: that it broke
is news, and ``server.watching`` looks at it. After three of them a pair has its turns with the cycles, like
any other.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from server.schedule import Pair

WAITS_S: Final = (10.0, 20.0, 40.0)
"""From the end of a test that came to nothing to the next one."""
AWAY_S: Final = 5.0
"""Between looks at a pair that cannot be tested now: an end is away, or the policy does not allow it."""
MOST: Final = 1_000
"""Pairs that wait. Of more, as behind one wall between two sites, the cycles are soon enough."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a pair has left: ``tried`` early tests have begun, the next is due at ``next_s``."""

    tried: int
    next_s: float


def turn_after(tried: int, now_s: float) -> Turn | None:
    """Give the next turn of a pair whose test came to nothing now; None: the cycle's."""
    return Turn(tried, now_s + WAITS_S[tried]) if tried < len(WAITS_S) else None


class EarlyTurns:
    """The pairs that wait for one. For one thread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._turns: dict[Pair, Turn] = {}

    def __len__(self) -> int:
        """How many pairs wait."""
        return len(self._turns)

    def heard(self, pair: Pair, now_s: float, *, worked: bool, first: bool = False) -> None:
        """Take in how a test ended, whoever ordered it; ``first``: nothing was known of the pair before."""
        known = self._turns.pop(pair, None)
        if worked or (known is None and (not first or len(self._turns) >= self._most)):
            return
        turn = turn_after(known.tried if known else 0, now_s)
        if turn is not None:
            self._turns[pair] = turn

    def started(self, pair: Pair, now_s: float) -> None:
        """Note that an early test begins. One that is not heard of again, as it made way, counts as a try."""
        tried = self._turns[pair].tried + 1
        self._turns[pair] = Turn(tried, now_s + WAITS_S[min(tried, len(WAITS_S) - 1)])

    def put_off(self, pair: Pair, now_s: float) -> None:
        """Look again soon: it could not be tested, which is no try."""
        self._turns[pair] = Turn(self._turns[pair].tried, now_s + AWAY_S)

    def due(self, now_s: float) -> list[Pair]:
        """Name the pairs whose turn it is, the longest overdue first."""
        late = sorted((turn.next_s, pair) for pair, turn in self._turns.items() if turn.next_s <= now_s)
        over = [pair for _, pair in late if self._turns[pair].tried >= len(WAITS_S)]
        for pair in over:
            del self._turns[pair]
        return [pair for _, pair in late if pair in self._turns]

    def leave(self, agents: Set[str]) -> None:
        """Forget the pairs with an end among these agents."""
        self._turns = {pair: turn for pair, turn in self._turns.items() if agents.isdisjoint(pair)}

    def forget(self, pair: Pair) -> None:
        """Leave a pair to the cycles: there is no room in its ends' budgets."""
        self._turns.pop(pair, None)

    def clear(self) -> None:
        """Forget all: a cycle begins, which tests them."""
        self._turns.clear()
