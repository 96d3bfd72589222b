"""What was just looked up in the state, for a second: pages ask for the same session many times over.

A change by this process forgets it at once; one by a command beside it counts within ``FRESH_S``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

FRESH_S: Final = 1.0
MOST: Final = 4_096

T = TypeVar("T")


class Lookup(Generic[T]):
    """Answers by key, each for a second. What is not there is looked for each time."""

    def __init__(
        self, find: Callable[[str], T | None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._find = find
        self._clock = clock
        self._found: dict[str, tuple[float, T]] = {}

    def __call__(self, key: str) -> T | None:
        """Find what a key is."""
        now_s = self._clock()
        known = self._found.get(key)
        if known is not None and now_s - known[0] < FRESH_S:
            return known[1]
        found = self._find(key)
        if found is None:
            self._found.pop(key, None)
            return None
        if len(self._found) >= MOST:
            self._found.clear()
        self._found[key] = (now_s, found)
        return found

    def forget(self) -> None:
        """Look everything up again."""
        self._found.clear()
