"""What a letter rests on: each input of a reading, with its samples and their interval. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from analytics import evidence
from analytics.evidence import Estimate, LossCount
from analytics.measurement import CapacityTrust, Reading
from analytics.rules.load import Samples


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """One input, and what the samples say of it; in nine cases of ten the truth lies within low and high."""

    name: str
    unit: str  # us, bp or kbit/s
    value: float | None  # None: not measured
    low: float | None = None
    high: float | None = None
    n: int = 0  # samples behind it
    needed: int = 0  # for a letter; 0 = it is not counted in samples
    told_by: str = ""  # agent
    note: str = ""

    @property
    def enough(self) -> bool:
        """Whether a letter may rest on it."""
        return self.value is not None and self.n >= self.needed


Read = Callable[[Reading, Reading | None, Samples], Input]


def _rtt(
    name: str, of: Callable[..., Estimate | None], needed: Callable[[Samples], int], percentile: str
) -> Read:
    """A percentile of the round trip, of the end that measured enough of them: both see the same one."""

    def read(reading: Reading, back: Reading | None, samples: Samples) -> Input:
        least_n = needed(samples)
        told = next((end for end in (reading, back) if end is not None and end.rtt_n >= least_n), reading)
        found = of(told, None, least_n=min(least_n, told.rtt_n))
        value = getattr(told, percentile) if found is None else found.value
        return Input(
            name=name,
            unit="us",
            value=value,
            low=None if found is None else found.low,
            high=None if found is None else found.high,
            n=told.rtt_n,
            needed=least_n,
            told_by=told.src,
        )

    return read


def _loss(name: str, pick: Callable[[Reading, Reading | None], Reading | None]) -> Read:
    """A share lost, with its Wilson interval."""

    def read(reading: Reading, back: Reading | None, samples: Samples) -> Input:
        end = pick(reading, back)
        count = LossCount(0, 0) if end is None else evidence.loss_count(end)
        if end is None or not count.sent:
            return Input(name=name, unit="bp", value=None, needed=samples.loss_n, note="not told")
        found = count.interval()
        return Input(
            name=name,
            unit="bp",
            value=10_000 * found.value,
            low=10_000 * found.low,
            high=10_000 * found.high,
            n=count.sent,
            needed=0 if count.lost else samples.loss_n,  # a loss that was seen is one, however few the probes
            told_by=end.dst,
            note=evidence.loss_in_words(count),
        )

    return read


def _capacity(name: str, *, both: bool) -> Read:
    """A rate; "at least" has no upper end."""

    def read(reading: Reading, back: Reading | None, samples: Samples) -> Input:
        ends = (reading, back) if both and back is not None else (reading,)
        known = [end for end in ends if end.capacity_kbps is not None and end.capacity_trust.value != "none"]
        if not known:
            return Input(name=name, unit="kbit/s", value=None, note=reading.capacity_why or "not measured")
        end = min(known, key=lambda one: one.capacity_kbps or 0)
        is_bound = end.capacity_trust is CapacityTrust.AT_LEAST
        value = float(end.capacity_kbps or 0)
        return Input(
            name=name,
            unit="kbit/s",
            value=value,
            low=value if is_bound else None,
            told_by=end.src,
            note="at least" if is_bound else "",
        )

    return read


def _worse(reading: Reading, back: Reading | None) -> Reading | None:
    ends = [end for end in (reading, back) if end is not None and end.sent]
    return max(ends, key=lambda end: evidence.loss_count(end).share, default=None)


INPUTS: Final[dict[str, Read]] = {
    "rtt_p50": _rtt("median round trip", evidence.median_rtt, lambda s: s.rtt_p50_n, "rtt_p50_us"),
    "rtt_p95": _rtt("round trip, 95th percentile", evidence.p95_rtt, lambda s: s.rtt_p95_n, "rtt_p95_us"),
    "rtt_p99": _rtt("round trip, 99th percentile", evidence.p99_rtt, lambda s: s.rtt_p99_n, "rtt_p99_us"),
    "loss": _loss("loss there", lambda reading, back: reading),
    "loss_back": _loss("loss back", lambda reading, back: back),
    "loss_worse": _loss("loss, the worse direction", _worse),
    "capacity": _capacity("capacity there", both=False),
    "capacity_lesser": _capacity("capacity, the lesser direction", both=True),
}
"""Name in ``Kind.inputs`` -> how it is read."""
