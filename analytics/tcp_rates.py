"""How fast TCP can be over a path: the published equations, in segments and seconds. Pure."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

CUBIC_C: Final = 0.4  # segments per cubic second (RFC 9438 section 4.1)
CUBIC_BETA: Final = 0.7
RENO_FRIENDLY: Final = 1.2  # average window of Reno in segments, times sqrt(p) (RFC 9438 section 5.1)


class Sender(StrEnum):
    """Congestion control of the end that sends."""

    CUBIC = "cubic"  # the default of Linux, Windows and macOS: a loss shrinks the window
    BBR = "bbr"


def mathis_window(loss: float, *, constant: float = 1.22) -> float:
    """Mean window in segments under random loss (Mathis, Semke, Mahdavi, Ott 1997, equation 3)."""
    return constant / math.sqrt(loss)


def reno_window(loss: float) -> float:
    """Mean window in segments of Reno with one loss in 1/p segments (RFC 9438 section 5.1)."""
    return RENO_FRIENDLY / math.sqrt(loss)


def cubic_window(loss: float, rtt_s: float, *, c: float = CUBIC_C) -> float:
    """Mean window in segments of CUBIC with one loss in 1/p segments (RFC 9438 section 5).

    Where the Reno-friendly region (section 5.1) gives more, that counts.
    """
    return max(reno_window(loss), cubic_region(loss, rtt_s, c=c))


def cubic_region(loss: float, rtt_s: float, *, c: float = CUBIC_C) -> float:
    """Mean window in segments of CUBIC outside its Reno-friendly region (RFC 9438 section 5, equation 5)."""
    factor = math.pow(c * (3 + CUBIC_BETA) / (4 * (1 - CUBIC_BETA)), 0.25)
    return factor * math.pow(rtt_s / loss, 0.75)


def tfrc_bytes_per_s(
    segment_bytes: int, rtt_s: float, loss: float, *, acked_at_once: int = 1, timeout_s: float | None = None
) -> float:
    """TCP's throughput equation (RFC 5348 section 3.1): bytes a second; ``loss`` is of loss events."""
    timeout_s = 4 * rtt_s if timeout_s is None else timeout_s
    halving = rtt_s * math.sqrt(2 * acked_at_once * loss / 3)
    waiting = timeout_s * 3 * math.sqrt(3 * acked_at_once * loss / 8) * loss * (1 + 32 * loss * loss)
    return segment_bytes / (halving + waiting)


def slow_start_s(object_bytes: float, rtt_s: float, rate_bps: float, *, segment_bytes: float) -> float:
    """Seconds to fetch an object over a new connection without loss (Kurose and Ross, static windows).

    Two round trips for connecting and asking, the transfer, and the stalls while the window, which begins at
    one segment and doubles, is smaller than the path.
    """
    segment_s = 8 * segment_bytes / rate_bps
    windows = math.ceil(math.log2(object_bytes / segment_bytes + 1))
    stalls = min(math.floor(math.log2(1 + rtt_s / segment_s)) + 1, windows - 1)
    stalled_s = stalls * (rtt_s + segment_s) - (math.pow(2, stalls) - 1) * segment_s
    return 2 * rtt_s + 8 * object_bytes / rate_bps + stalled_s
