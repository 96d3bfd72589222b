"""Whether memory grows: samples over time in, a share out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import Final, NamedTuple

WINDOW_SHARE: Final = 0.2
"""Of what is looked at, the first and the last so much are compared. In an hour that is ten minutes each, two
cycles: one sample tells more of where in a cycle it was taken than of the trend."""
MOST_FOR_SLOPE: Final = 300
"""Samples between which slopes are taken; of more, evenly chosen ones."""


class Sample(NamedTuple):
    """Resident memory of one process, or of several together, at a moment of the run."""

    at_s: float
    rss_kb: int


class Growth(NamedTuple):
    """What memory did from the end of the warm-up to the end of the run."""

    first_kb: float  # median of the first window
    last_kb: float  # median of the last window
    slope_kb_per_h: float  # the middle of all slopes between two samples (Theil and Sen, 1968)
    most_kb: int

    @property
    def share(self) -> float:
        """By how much the last window is above the first; below 0 it shrank."""
        return self.last_kb / self.first_kb - 1


def growth(samples: Sequence[Sample], *, from_s: float) -> Growth | None:
    """Compare medians of the first and the last window after ``from_s``; None of fewer than ten samples."""
    looked_at = [one for one in samples if one.at_s >= from_s]
    if len(looked_at) < 10:
        return None
    width = max(1, round(len(looked_at) * WINDOW_SHARE))
    first, last = looked_at[:width], looked_at[-width:]
    return Growth(
        first_kb=median(one.rss_kb for one in first),
        last_kb=median(one.rss_kb for one in last),
        slope_kb_per_h=_slope(looked_at),
        most_kb=max(one.rss_kb for one in looked_at),
    )


def together(of_each: Sequence[Sequence[Sample]]) -> list[Sample]:
    """Add up what several processes took at the same looks."""
    return [Sample(looks[0].at_s, sum(one.rss_kb for one in looks)) for looks in zip(*of_each, strict=True)]


def _slope(samples: Sequence[Sample]) -> float:
    chosen = samples[:: -(-len(samples) // MOST_FOR_SLOPE)]
    slopes = [
        3_600 * (late.rss_kb - early.rss_kb) / (late.at_s - early.at_s)
        for early, late in combinations(chosen, 2)
        if late.at_s > early.at_s
    ]
    return median(slopes) if slopes else 0.0
