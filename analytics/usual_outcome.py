"""What the outcome of a path usually is: the median over its tests before it became slower. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

from analytics.kinds.table import kind_of
from analytics.measurement import Reading, Rung
from analytics.rules.load import Profile, Samples
from analytics.usual import Pair, Usual

LEAST_N: Final = 10
"""Of a median, as for the samples of a test."""


def usual_outcome(pair: Pair, usual: Usual, profile: Profile, samples: Samples) -> int | None:
    """Grade the earlier tests by the same rules; None where fewer than ``LEAST_N`` have an outcome."""
    src, dst = pair
    there, back = usual.calm.get((src, dst), ()), usual.calm.get((dst, src), ())
    found = _outcomes(there, {reading.test: reading for reading in back}, profile, samples)
    return round(median(found)) if len(found) >= LEAST_N else None


def _outcomes(
    there: Sequence[Reading], back: dict[str, Reading], profile: Profile, samples: Samples
) -> list[int]:
    kind = kind_of(profile)
    graded = (
        kind.grade(reading, back.get(reading.test), profile, samples)
        for reading in there
        if not reading.error and reading.rung is not Rung.NONE
    )
    return [one.outcome for one in graded if one.outcome is not None]
