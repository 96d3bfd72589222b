"""How the thresholds of rules are called and written: by the document of the grades and by ``explain``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from analytics.words import percent, rate, span

LIMITS: Final[dict[str, tuple[str, Callable[[int], str]]]] = {
    "most_ms": ("time to open", lambda ms: span(1_000 * ms)),
    "most_us": ("answer, 95th percentile", span),
    "most_rtt_p95_us": ("round trip, 95th percentile", span),
    "most_loss_bp": ("loss, the worse direction", lambda bp: percent(bp / 10_000)),
    "most_rtt_p50_us": ("round trip, median", span),
    "most_retransmit_bp": ("segments sent again", lambda bp: percent(bp / 10_000)),
    "least_r": ("R", str),
    "least_kbps": ("rate, the lesser direction", rate),
    "least_score": ("QoO", str),
}
"""Key of a threshold -> its name, and how it is written."""
