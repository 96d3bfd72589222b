"""The wall clock, as every row has it, and its measures."""

from __future__ import annotations

import time
from typing import Final

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US


def now_us() -> int:
    """Microseconds since 1970-01-01 UTC, by the host's clock."""
    return time.time_ns() // 1_000
