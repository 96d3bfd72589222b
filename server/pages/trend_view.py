"""The day before now as a picture: for each hour a column of letters, the worst at the bottom. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from analytics.measurement import Letter
from analytics.overview import LetterCount
from analytics.trend import Trend, TrendColumn
from server.pages import text

STEP: Final = 40
"""Width of a column, in units of the drawing."""
GAP: Final = 4
HEIGHT: Final = 100
USABLE: Final = frozenset({Letter.A, Letter.B, Letter.C})


@dataclass(frozen=True, slots=True)
class Part:
    """A letter in a column."""

    letter: Letter
    y: int
    height: int


@dataclass(frozen=True, slots=True)
class Column:
    """One moment."""

    x: int
    words: str  # "14:00 UTC: 10 D, 8 B, 12 A"
    parts: list[Part]  # none: nothing was measured, or it is not known


@dataclass(frozen=True, slots=True)
class TrendView:
    """The picture, and the same in words."""

    columns: list[Column]
    width: int
    words: str
    first: str


def trend_view(trend: Trend) -> TrendView | None:
    """Lay a trend out; None where there is nothing to compare now with."""
    known = [column for column in trend.columns[:-1] if column.letters]
    if not known:
        return None
    return TrendView(
        columns=[
            Column(place * STEP, words_of(column), parts(column.letters or []))
            for place, column in enumerate(trend.columns)
        ],
        width=len(trend.columns) * STEP - GAP,
        words=f"{_usable(known[0])}; {_usable(trend.columns[-1], 'now')}",
        first=text.clock(trend.columns[0].at_us)[5:16],
    )


def parts(letters: list[LetterCount]) -> list[Part]:
    """Divide a column among the letters, the worst at the bottom; each that a path has is seen."""
    total = sum(count.paths for count in letters)
    made, foot = [], HEIGHT
    for place, count in enumerate(letters):
        last = place == len(letters) - 1
        height = foot if last else min(max(2, round(HEIGHT * count.paths / total)), foot)
        made.append(Part(count.letter, foot - height, height))
        foot -= height
    return made


def words_of(column: TrendColumn) -> str:
    """Say a column: '14:00 UTC: 10 D, 8 B, 12 A'."""
    at = f"{text.clock(column.at_us)[5:16]} UTC"
    if column.letters is None:
        return f"{at}: not known"
    told = ", ".join(f"{count.paths:,} {count.letter.value}" for count in column.letters)
    return f"{at}: {told or 'nothing measured'}"


def _usable(column: TrendColumn, at: str = "") -> str:
    letters = column.letters or []
    total = sum(count.paths for count in letters) or 1
    share = 100 * sum(count.paths for count in letters if count.letter in USABLE) // total
    return f"{at or text.clock(column.at_us)[5:16] + ' UTC'} {share} % A to C"
