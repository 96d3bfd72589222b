"""What a reading's samples support: values with the interval in which the truth lies, 9 times in 10. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from analytics.measurement import Reading

Z_90: Final = 1.645
"""Two-sided 90 %: the normal quantile at 0.95."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LossCount:
    """Probes lost of those sent, one direction."""

    lost: int
    sent: int

    @property
    def share(self) -> float:
        """Lost share, 0..1; 0 where nothing was sent."""
        return self.lost / self.sent if self.sent else 0.0

    def interval(self) -> Estimate:
        """The share with its Wilson score interval (1927), which holds for few losses too."""
        if not self.sent:
            return Estimate(0.0, 0.0, 1.0)
        n, p, z2 = self.sent, self.share, Z_90**2
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = Z_90 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        low = 0.0 if not self.lost else max(0.0, middle - half)
        return Estimate(p, low, min(1.0, middle + half))


def loss_count(reading: Reading) -> LossCount:
    """Count the losses of a reading's own direction."""
    return LossCount(lost=max(0, reading.sent - reading.received), sent=reading.sent)


def median_rtt(reading: Reading, back: Reading | None, *, least_n: int) -> Estimate | None:
    """Median round trip, us, within its quartiles; None with fewer than ``least_n`` samples.

    With 10 samples or more the quartiles hold the true median in at least 89 of 100 cases (binomial).
    """
    told = _enough(reading, back, least_n)
    if told is None or told.rtt_p50_us is None:
        return None
    return _estimate(told.rtt_p25_us, told.rtt_p50_us, told.rtt_p75_us)


def p95_rtt(reading: Reading, back: Reading | None, *, least_n: int) -> Estimate | None:
    """95th percentile of the round trip, us, within the 90th and 99th; None with fewer samples.

    With 59 samples or more the true 95th percentile lies between those two in 9 of 10 cases (binomial).
    """
    told = _enough(reading, back, least_n)
    if told is None or told.rtt_p95_us is None:
        return None
    return _estimate(told.rtt_p90_us, told.rtt_p95_us, told.rtt_p99_us)


def _enough(reading: Reading, back: Reading | None, least_n: int) -> Reading | None:
    """The round trip is the same seen from either end: take the other end's where this one has too few."""
    ends = (reading, back) if back is not None else (reading,)
    return next((end for end in ends if end.rtt_n >= least_n), None)


def _estimate(low: int | None, value: int, high: int | None) -> Estimate:
    return Estimate(value, min(value, value if low is None else low), max(value, high or value))
