"""Trying again: how long to wait, and saying so once."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final

BASE_S: Final = 0.5
CAP_S: Final = 30.0
"""A server that comes back is found within half a minute by all, and within seconds by most."""


def backoff_s(attempt: int, *, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Choose a wait before the next attempt (from 0): full jitter, so that a fleet does not come as one."""
    return uniform(0, min(CAP_S, BASE_S * 2 ** min(attempt, 16)))


class Pace:
    """How fast messages are taken in: so many at once, then so many a second. Pure: no clock of its own."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._every_s = 1 / per_s
        self._ahead_s = burst / per_s
        self._due_s = float("-inf")

    def wait_s(self, now_s: float) -> float:
        """Take one in; say how long to wait before."""
        self._due_s = max(self._due_s, now_s - self._ahead_s) + self._every_s
        return max(0.0, self._due_s - now_s)


class StateLine:
    """One log line a change of state, however often it is said."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last = ""

    def say(self, state: str, *, level: int = logging.INFO) -> None:
        """Log ``state``, unless it was the last thing said."""
        if state != self._last:
            self._log.log(level, "%s", state)
        self._last = state
