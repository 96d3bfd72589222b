"""Who is at which hour: an hour is not rolled up while rows of it are being sealed, and the other way round.

Both take seconds to minutes and are of different hours, but for a clock turned back: so neither waits
for the other otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager


class Hours:
    """One thread seals, one rolls up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sealed: Collection[int] = ()
        self._rolled: Collection[int] = ()

    @contextmanager
    def sealing(self, hours: Collection[int]) -> Iterator[None]:
        """Seal rows of these hours, once none of them is being rolled up."""
        with self._changed:
            self._changed.wait_for(lambda: not set(hours) & set(self._rolled))
            self._sealed = hours
        try:
            yield
        finally:
            with self._changed:
                self._sealed = ()
                self._changed.notify_all()

    @contextmanager
    def rolling(self, hours: Collection[int]) -> Iterator[None]:
        """Roll up these hours, once none of them is being sealed."""
        with self._changed:
            self._changed.wait_for(lambda: not set(hours) & set(self._sealed))
            self._rolled = hours
        try:
            yield
        finally:
            with self._changed:
                self._rolled = ()
                self._changed.notify_all()
