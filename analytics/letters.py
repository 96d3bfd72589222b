"""Letters and their order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from analytics.measurement import Letter

LETTERS: Final = (Letter.A, Letter.B, Letter.C, Letter.D, Letter.F)
APART: Final = 2
"""Letters between what the inputs support at best and at worst: so many, and no letter is given."""
CANNOT: Final = LETTERS.index(Letter.D)
"""From this letter on, people cannot work."""
BAD: Final = frozenset((*LETTERS[CANNOT:], Letter.UNREACHABLE))
"""Letters of paths that people cannot work over."""


def rank(letter: Letter) -> int:
    """0 for A ... 4 for F and X; only for letters that were given."""
    return LETTERS.index(Letter.F if letter is Letter.UNREACHABLE else letter)


def letter_within(value: float, limits: Sequence[int]) -> Letter:
    """The first letter whose limit holds the value: limits are the most that A, B, C and D may have."""
    return next((letter for letter, most in zip(LETTERS, limits, strict=False) if value <= most), Letter.F)


def letter_above(value: float, limits: Sequence[int]) -> Letter:
    """The first letter whose limit the value reaches: limits are the least that A, B, C and D must have."""
    return next((letter for letter, least in zip(LETTERS, limits, strict=False) if value >= least), Letter.F)


def worse(*letters: Letter) -> Letter:
    """The worst of several letters."""
    return max(letters, key=rank)


def apart(best: Letter, worst: Letter) -> bool:
    """True where two letters are so far from each other that neither may be given."""
    return rank(worst) - rank(best) >= APART
