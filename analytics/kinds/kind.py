"""What a kind of profile is made of: all that differs between kinds stands in its one module. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from analytics.measurement import Letter, Reading
from analytics.predict import Limit
from analytics.rules.load import Samples
from analytics.shapes import PathRow

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Found:
    """A grade without the names that every grade carries."""

    letter: Letter
    reason: str
    outcome: int | None = None
    low: int | None = None
    high: int | None = None
    rule: str = ""
    letters: tuple[Letter, ...] = ()
    """At best and at worst, where more than the outcome decides; else the outcome's ends have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[P]):
    """One kind of profile."""

    grade: Callable[[Reading, Reading | None, P, Samples], Found]
    limits: Callable[[PathRow, P], list[Limit]]
    """What a path that cannot be worked over waits for, the greatest first."""
    unit: str
    """Of the outcome."""
    written: Callable[[int], str]
    """The outcome as the profile's sentence says it."""
    steps: Callable[[P], Sequence[int]]
    """What the outcome is measured by: the limits of A, B, C and D."""
    inputs: tuple[str, ...]
    """What of a reading the letter rests on: names of ``analytics/inputs.py``."""
    outcome_is_all: bool = True
    """False: what is lost, or the rate, may give a worse letter than the outcome would."""
    higher_is_better: bool = False
    both_ways: bool = True
    """False: only what is lost towards the destination counts."""
    notes: Callable[[P], str]
    """What the document of the grades says of it beside its thresholds."""
