"""What of each open session went into rows already, so that no byte is counted twice."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from agent.passive.columns import Key
from agent.passive.tally import Done
from analytics.measurement import Direction

MOST_SESSIONS: Final = 65_536
"""Open sessions to remember, as many as the kernel side does. One more is counted at its close instead."""


class Account(NamedTuple):
    """What was told of one open session."""

    done: Done
    direction: Direction
    window: int  # the last one in which a process held it


class Accounts:
    """The sessions told before and not closed since. ``told`` is for reading only."""

    def __init__(self) -> None:
        self.told: dict[Key, Account] = {}
        self._sockets: Counter[int] = Counter()  # of two sessions with one kernel address, one has ended

    @property
    def sockets(self) -> Counter[int]:
        """Kernel addresses of the sessions told."""
        return self._sockets

    @property
    def full(self) -> bool:
        """True where no further session is to be put here."""
        return len(self.told) >= MOST_SESSIONS

    def put(self, key: Key, account: Account) -> None:
        """Remember what was told of a session."""
        if key not in self.told:
            self._sockets[key[0]] += 1
        self.told[key] = account

    def remove(self, key: Key) -> None:
        """Forget a session, if it was told."""
        if self.told.pop(key, None) is None:
            return
        self._sockets[key[0]] -= 1
        if not self._sockets[key[0]]:
            del self._sockets[key[0]]

    def forget(self, *, before: int) -> None:
        """Forget the sessions that no process held since that window."""
        for key in [key for key, account in self.told.items() if account.window < before]:
            self.remove(key)
