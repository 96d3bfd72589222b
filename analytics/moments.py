"""Moments as people write them: 2026-11-25T09:45, 09:45, 2h for so long ago, or us since 1970. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
EXAMPLES: Final = "2h, 7d, 09:45, 2026-11-25 or 2026-11-25T09:45Z"


def moment_us(text: str, now_us: int) -> int | None:
    """Read a moment, UTC where no zone is named; None where it is none.

    A span is so long before ``now_us``; a time of day alone is its latest one up to now; nine digits or more
    are us since 1970.
    """
    text = text.strip()
    if re.fullmatch(r"[0-9]{9,18}", text):  # fewer digits are a date
        return int(text)
    span = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if span is not None:
        return max(0, now_us - int(span[1]) * UNIT_S[span[2]] * 1_000_000)
    clock = re.fullmatch(r"(\d{1,2}):(\d\d)", text)
    if clock is not None:
        return _time_of_day(int(clock[1]), int(clock[2]), now_us)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    at = read if read.tzinfo is not None else read.replace(tzinfo=UTC)
    return max(0, round(at.timestamp() * 1e6))


def _time_of_day(hour: int, minute: int, now_us: int) -> int | None:
    if hour > 23 or minute > 59:
        return None
    day_us = UNIT_S["d"] * 1_000_000
    at_us = now_us - now_us % day_us + (60 * hour + minute) * 60_000_000
    return at_us if at_us <= now_us else at_us - day_us
