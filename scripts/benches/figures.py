"""The figures of a bench: ratios, targets, the verdict, the table. Pure: numbers in, text out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple


class Ratio(NamedTuple):
    """A median over pairs and how far they lie apart.

    Of 7 pairs, least and greatest enclose the true median with 98 % confidence (binomial, order statistics).
    """

    median: float
    low: float
    high: float
    pairs: int


class Factor(NamedTuple):
    """How many times another tool's figure this one is."""

    times: float


Cell = float | Ratio | Factor | str | None
"""A figure; a string says why there is none; None where the question makes no sense."""


def ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """Compare throughputs (without, with) pair by pair: what drifts is the same in both of a pair."""
    ratios = [with_it / without for without, with_it in pairs]
    return Ratio(median(ratios), min(ratios), max(ratios), len(ratios))


def spread(values: Sequence[float]) -> Ratio:
    """Say how far equal runs lie apart, as a ratio to their median: a smaller difference means nothing."""
    middle = median(values)
    return Ratio(1.0, min(values) / middle, max(values) / middle, len(values))


class Target(NamedTuple):
    """What is to be reached; ``timed`` is left out of a quick run, whose times mean nothing."""

    limit: float
    at_least: bool = False
    timed: bool = True

    def holds(self, value: float) -> bool:
        """Compare as measured, not as printed."""
        return value >= self.limit if self.at_least else value <= self.limit


class Figure(NamedTuple):
    """One row of the table: its name in the JSON, in words, how it is written, what is to be reached."""

    key: str
    words: str
    write: Callable[[float], str]
    target: Target | None = None


Results = Mapping[str, Mapping[str, Cell]]
"""Column -> figure -> cell."""


def missed(figures: Sequence[Figure], results: Results, *, judged: str, quick: bool) -> list[str]:
    """Name the figures of column ``judged`` that miss their target; one that is not there misses it too."""
    due = [figure for figure in figures if figure.target and not (quick and figure.target.timed)]
    return [figure.words for figure in due if not _holds(figure, results[judged].get(figure.key))]


def _holds(figure: Figure, cell: Cell) -> bool:
    value = cell.median if isinstance(cell, Ratio) else cell
    return isinstance(value, float | int) and figure.target is not None and figure.target.holds(value)


# --- text ---------------------------------------------------------------------------------------------------


def percent(value: float) -> str:
    """Write a share; 100 % only where it is all of it."""
    return f"{int(value * 1000) / 10:.1f} %"


def number(digits: int, unit: str) -> Callable[[float], str]:
    """Write a number with so many digits and a unit."""
    return lambda value: f"{value:,.{digits}f}{unit and ' '}{unit}"


def times(value: float) -> str:
    """Write how many times another figure one is."""
    return f"{value:.2f} x"


def table(
    figures: Sequence[Figure], results: Results, headings: Mapping[str, str], *, judged: str, quick: bool
) -> str:
    """Lay the figures out: a row each, a column for each of ``headings``, then the judged one's target."""
    rows = [["", *headings.values(), f"target ({headings[judged]})"]]
    for figure in figures:
        cells = [_write(figure, results.get(column, {}).get(figure.key)) for column in headings]
        rows.append([figure.words, *cells, _write_target(figure, results[judged].get(figure.key), quick)])
    return _aligned(rows)


def notes(results: Results, headings: Mapping[str, str]) -> list[str]:
    """Say, once a column, why it has no figures."""
    reasons = {headings[column]: _reasons(cells) for column, cells in results.items()}
    return [f"{column}: does not run here: {reason}" for column, found in reasons.items() for reason in found]


def _reasons(cells: Mapping[str, Cell]) -> list[str]:
    return sorted({cell for cell in cells.values() if isinstance(cell, str)})


def _write(figure: Figure, cell: Cell) -> str:
    if cell is None or isinstance(cell, str):
        return NOTHING
    if isinstance(cell, Ratio):
        return f"{cell.median:.3f} ({cell.low:.2f}..{cell.high:.2f})"
    if isinstance(cell, Factor):
        return times(cell.times)
    return figure.write(cell)


NOTHING: Final = "-"


def _write_target(figure: Figure, cell: Cell, quick: bool) -> str:
    if not figure.target:
        return ""
    sign = ">=" if figure.target.at_least else "<="
    verdict = "met" if _holds(figure, cell) else "MISSED"
    if quick and figure.target.timed:
        verdict = "not judged"
    return f"{sign} {figure.write(figure.target.limit)}  {verdict}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *middle, last = row
    cells = [cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)]
    return "  ".join([first.ljust(widths[0]), *cells, last]).rstrip()
