"""What a PACS itself takes for an image, learnt from what its clients saw: requests, or whole fetches.

Two sources. A request that was watched passively: the time from its last byte to the answer's first, less the
least round trip of its connection. Or a fetch whose time was predicted: what it took longer, spread over its
images, comes on top of what the prediction assumed.

The middle and its spread are robust (median; 1.4826 MAD estimates the standard deviation of normal noise,
Huber 1981): a request that met a backup does not count for ten. Below a least number nothing is said. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import msgspec

from analytics.evidence import Z_90
from analytics.rules.load import Study

LEAST_REQUESTS: Final = 10  # as for any median here (profiles.toml, samples.rtt_p50_n)
LEAST_FETCHES: Final = 5  # each is a mean over its images already
MAD_TO_DEVIATION: Final = 1.4826
MEDIAN_TO_MEAN_ERROR: Final = 1.2533  # sqrt(pi / 2): a median of normal noise is that much less certain
LEAST_US: Final = 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """The time a PACS takes for one image, in microseconds, with the 90 % interval of its middle."""

    server_us_per_image: int
    n: int  # requests or fetches that say so
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class ObservedFetch:
    """A study that was fetched, beside its prediction with ``server_us_per_image`` assumed."""

    predicted_us: int
    took_us: int
    images: int
    server_us_per_image: int

    @property
    def told_us(self) -> float:
        """Server time per image that would have made the prediction right."""
        return self.server_us_per_image + (self.took_us - self.predicted_us) / self.images


def from_requests(waited_us: Sequence[float], rtt_min_us: float) -> Calibration | None:
    """Calibrate from passive requests: last byte asked to first byte answered, over one least round trip.

    None if they are fewer than ``LEAST_REQUESTS``.
    """
    return _middle([waited - rtt_min_us for waited in waited_us], LEAST_REQUESTS)


def from_fetches(fetches: Sequence[ObservedFetch]) -> Calibration | None:
    """Calibrate from whole fetches of one PACS over any paths. None below ``LEAST_FETCHES``.

    What the model gets wrong of a path is in here too: take fetches over paths without loss.
    """
    return _middle([fetch.told_us for fetch in fetches], LEAST_FETCHES)


def study_with(study: Study, calibration: Calibration | None) -> Study:
    """Give the study as this PACS serves it; unchanged if nothing was learnt."""
    if calibration is None:
        return study
    return msgspec.structs.replace(study, server_us_per_image=calibration.server_us_per_image)


def _middle(told_us: Sequence[float], least_n: int) -> Calibration | None:
    if len(told_us) < least_n:
        return None
    middle = median(told_us)
    deviation = MAD_TO_DEVIATION * median(abs(one - middle) for one in told_us)
    error = Z_90 * MEDIAN_TO_MEAN_ERROR * deviation / math.sqrt(len(told_us))
    return Calibration(_us(middle), len(told_us), _us(middle - error), _us(middle + error))


def _us(value: float) -> int:
    return max(LEAST_US, round(value))
