"""When to try again. Pure: chance is an argument."""

from __future__ import annotations

from typing import Final

FIRST_US: Final = 2_000_000
MOST_US: Final = 300_000_000
DOUBLINGS: Final = 8


def wait_us(tries: int, chance: float, *, asked_s: int | None = None) -> int:
    """How long to wait after so many failed attempts (from 1 on); ``chance`` is in [0, 1).

    Twice as long each time up to five minutes, and half of it up to chance, so that many do not come back at
    once. ``asked_s``: what the receiver asked for (Retry-After), taken up to the same most.
    """
    longest_us = min(MOST_US, FIRST_US << min(tries - 1, DOUBLINGS))
    own_us = longest_us // 2 + int(chance * (longest_us // 2))
    return max(own_us, min(MOST_US, (asked_s or 0) * 1_000_000))
