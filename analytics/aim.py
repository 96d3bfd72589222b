"""Aggregated Internet Measurement classes of speed.cloudflare.com, and the bufferbloat letter. Pure.

Points by table, sums by use, classes by table. A value that was not measured gives no class: scoring a
missing loss as zero points would treat it as a bad one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Use(StrEnum):
    """What people do with a line."""

    STREAMING = "streaming"
    GAMING = "gaming"
    CALLS = "rtc"


class Class(StrEnum):
    """How well the line serves for it."""

    BAD = "bad"
    POOR = "poor"
    AVERAGE = "average"
    GOOD = "good"
    GREAT = "great"


@dataclass(frozen=True, slots=True)
class Scale:
    """Points by value: those of the first threshold that the value is below."""

    thresholds: Sequence[float]
    points: Sequence[int]

    def of(self, value: float) -> int:
        """The points of a value; one on a threshold has passed it."""
        return self.points[bisect_right(self.thresholds, value)]


_DELAY: Final = Scale((10, 20, 50, 100, 500), (20, 10, 5, 0, -10, -20))
_RATE: Final = Scale((1e6, 1e7, 5e7, 1e8), (0, 5, 10, 20, 30))
SCALES: Final[Mapping[str, Scale]] = {
    "loss": Scale((0.01, 0.05, 0.25, 0.5), (10, 5, 0, -10, -20)),  # share
    "latency_ms": _DELAY,
    "loaded_increase_ms": _DELAY,
    "jitter_ms": Scale((10, 20, 100, 500), (10, 5, 0, -10, -20)),
    "download_bps": _RATE,
    "upload_bps": _RATE,
}
_NEEDS: Final[Mapping[Use, tuple[tuple[str, ...], Sequence[int]]]] = {
    Use.STREAMING: (("latency_ms", "loss", "download_bps", "loaded_increase_ms"), (15, 20, 40, 60)),
    Use.GAMING: (("latency_ms", "loss", "loaded_increase_ms"), (5, 15, 25, 30)),
    Use.CALLS: (("latency_ms", "jitter_ms", "loss", "loaded_increase_ms"), (5, 15, 25, 40)),
}
"""Use -> what its points are summed over, and from which sum on each better class begins."""


def classify(use: Use, measured: Mapping[str, float | None]) -> Class | None:
    """The class of a line for a use; None where something it needs was not measured."""
    names, cuts = _NEEDS[use]
    values = [measured.get(name) for name in names]
    points = [SCALES[name].of(value) for name, value in zip(names, values, strict=True) if value is not None]
    if len(points) < len(names):
        return None
    return list(Class)[bisect_right(cuts, max(0, sum(points)))]


_BLOAT: Final = ((5, "A+"), (30, "A"), (60, "B"), (200, "C"), (400, "D"))


def bufferbloat(down_increase_ms: float, up_increase_ms: float) -> str:
    """Letter of dslreports.com: the mean rise of the round trip under load, A+ to F."""
    rise_ms = (down_increase_ms + up_increase_ms) / 2
    return next((letter for below, letter in _BLOAT if rise_ms < below), "F")
