"""Where times come from: this host's clocks, and what its kernel claims of the one that stamps packets."""

from __future__ import annotations

import ctypes
import time
from typing import Final, Protocol

STA_UNSYNC: Final = 0x0040  # linux/timex.h
TIME_ERROR: Final = 5
MAX_ERROR_US: Final = 16_000_000  # NTP_PHASE_LIMIT: the kernel stops counting there, and so claims nothing


class Clock(Protocol):
    """Where the time comes from."""

    def wall_ns(self) -> int:
        """Ns since 1970, of the clock that stamps packets."""

    def monotonic_ns(self) -> int:
        """Ns that never step."""


class SystemClock:
    """The clocks of this host."""

    def wall_ns(self) -> int:
        """As ``Clock``."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """As ``Clock``."""
        return time.monotonic_ns()


class Timex(ctypes.Structure):
    """``struct timex`` of adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("counts", ctypes.c_long * 4),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


def wall_error_us() -> int | None:
    """How far the wall clock is from UTC at most, as the kernel's clock discipline claims; None = no claim.

    Reading needs no privilege (adjtimex(2) with modes = 0). A clock that nothing disciplines claims nothing,
    and so does one whose reading a sandbox forbids.
    """
    told = Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(told))
    return claimed_us(state, told.status, told.maxerror)


def claimed_us(state: int, status: int, maxerror_us: int) -> int | None:
    """What an answer of adjtimex claims: ``maxerror`` (root distance, RFC 5905), if it is synchronised."""
    synchronised = 0 <= state < TIME_ERROR and not status & STA_UNSYNC
    return maxerror_us if synchronised and 0 < maxerror_us < MAX_ERROR_US else None
