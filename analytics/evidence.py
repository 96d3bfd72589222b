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


def worse_loss(reading: Reading, back: Reading | None) -> LossCount:
    """Count the losses of the direction that loses more: a request needs its answer."""
    counts = [loss_count(end) for end in (reading, back) if end is not None and end.sent]
    return max(counts, key=lambda count: count.share, default=LossCount(0, 0))


def loss_in_words(count: LossCount) -> str:
    """Say '3 of 300 packets lost'."""
    return f"{count.lost or 'none'} of {count.sent} packets lost"


def likely_loss(count: LossCount, *, least_n: int) -> Estimate | None:
    """The loss with its interval; none in ``least_n`` probes or more counts as none; None with too few.

    A loss that was not seen in that many is below 1 % (Wilson, 90 %).
    """
    if count.lost:
        return count.interval()
    return Estimate(0.0, 0.0, 0.0) if count.sent >= least_n else None


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


def p99_rtt(reading: Reading, back: Reading | None, *, least_n: int) -> Estimate | None:
    """99th percentile of the round trip, us, from the 95th on; None with fewer samples.

    With 299 samples or more the greatest is above the true 99th percentile 19 times in 20: what is told is
    the value, and that nobody knows by how much it may be exceeded.
    """
    told = _enough(reading, back, least_n)
    if told is None or told.rtt_p99_us is None:
        return None
    return _estimate(told.rtt_p95_us, told.rtt_p99_us, told.rtt_p99_us)


def _enough(reading: Reading, back: Reading | None, least_n: int) -> Reading | None:
    """The round trip is the same seen from either end: take the other end's where this one has too few."""
    ends = (reading, back) if back is not None else (reading,)
    return next((end for end in ends if end.rtt_n >= least_n), None)


def _estimate(low: int | None, value: int, high: int | None) -> Estimate:
    return Estimate(value, min(value, value if low is None else low), max(value, high or value))
