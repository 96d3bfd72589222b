"""How many paths had which letter, hour by hour: the shape of it. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from analytics.clock import HOUR_US
from analytics.overview import LetterCount

HOURS: Final = 24


class TrendColumn(msgspec.Struct, frozen=True, kw_only=True):
    """All paths at one moment."""

    at_us: int
    letters: list[LetterCount] | None  # worst first; empty: nothing was measured; None: not known (yet)


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """The full hours of a day, and the moment itself, oldest first."""

    profile: str
    columns: list[TrendColumn]


def full_hours(at_us: int) -> list[int]:
    """List the full hours of the day before a moment, the oldest first."""
    latest = (at_us - 1) // HOUR_US * HOUR_US
    return [latest - back * HOUR_US for back in reversed(range(HOURS)) if latest >= back * HOUR_US]
