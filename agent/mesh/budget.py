"""How much of the hour's byte budget is left for packet trains: pure, the clock is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

HOUR_NS: Final = 3_600 * 1_000_000_000


class Budget:
    """Bytes that this agent may spend on trains in any 60 minutes, whoever the peers are."""

    def __init__(self, bytes_an_hour: int) -> None:
        self.limit = bytes_an_hour
        self.total = 0
        """Bytes taken since this process began."""
        self.held = False
        """Nothing is given out meanwhile: the agent takes more of its host than it may."""
        self._spent: deque[tuple[int, int]] = deque()  # when, bytes

    def left(self, now_ns: int) -> int:
        """Bytes that may be spent now; ``now_ns`` never steps back."""
        while self._spent and self._spent[0][0] <= now_ns - HOUR_NS:
            self._spent.popleft()
        return self.limit - sum(taken for _, taken in self._spent)

    def take(self, now_ns: int, wanted: int) -> bool:
        """Take bytes out; False, and nothing taken, if there are not so many."""
        if self.held or wanted > self.left(now_ns):
            return False
        self._spent.append((now_ns, wanted))
        self.total += wanted
        return True

    @property
    def why_not(self) -> str:
        """Why nothing was taken out."""
        return "held by the agent's own limits" if self.held else "this hour's bytes for trains are spent"

    def give_back(self, unused: int) -> None:
        """Put back what the last taking turned out not to need."""
        if self._spent and unused > 0:
            when, taken = self._spent.pop()
            self._spent.append((when, max(0, taken - unused)))
            self.total -= min(taken, unused)

    def spent(self, now_ns: int) -> list[tuple[int, int]]:
        """Tell what counts now: when, and how many bytes; oldest first."""
        self.left(now_ns)
        return [*self._spent]

    def restore(self, spent: Iterable[tuple[int, int]]) -> None:
        """Take in what an earlier process spent, oldest first; before anything is taken."""
        self._spent.extend(spent)
