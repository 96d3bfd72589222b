"""What the matrix page shows beside its picture: steps of each metric, and the tables. Pure.

A metric is drawn in seven steps, from the best to the worst. One definition of them is here; the page's
script gets it as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from analytics.measurement import Letter, Rung
from analytics.overview import MatrixCells, Metric, SitePaths
from server.pages import text

TABLE_MOST: Final = 24
"""Agents whose matrix is readable as a table; a larger fleet's table is of its sites."""
SITES_MOST: Final = 30

TITLES: Final[Mapping[Metric, str]] = {
    Metric.LETTER: "Grade",
    Metric.RTT: "RTT",
    Metric.LOSS: "Loss →",
    Metric.LOSS_BACK: "Loss ←",
    Metric.RUNG: "Reached by",
    Metric.AGE: "Age",
}

LETTERS: Final = (
    Letter.UNKNOWN,
    Letter.A,
    Letter.B,
    Letter.C,
    Letter.D,
    Letter.F,
    Letter.UNREACHABLE,
)
"""Steps of the metric 'letter': where cells are too small, the worst of a block is drawn."""

MOST: Final[Mapping[Metric, tuple[int, ...]]] = {
    Metric.RTT: (5_000, 20_000, 50_000, 100_000, 200_000, 400_000),
    Metric.LOSS: (0, 10, 50, 100, 300, 1_000),
    Metric.LOSS_BACK: (0, 10, 50, 100, 300, 1_000),
    Metric.RUNG: (0, 1, 2, 3, 4, 5),
    Metric.AGE: (300, 600, 1_800, 3_600, 21_600, 86_400),
}
"""The most that each step but the last holds, in the metric's unit."""

RUNG_CODE: Final[Mapping[Rung, str]] = {
    Rung.LAN: "L",
    Rung.IPV6: "6",
    Rung.SRFLX: "N",
    Rung.RELAY_UDP: "U",
    Rung.RELAY_TCP: "T",
    Rung.RELAY_TLS: "S",
    Rung.NONE: "X",
}
"""What stands in a cell for a rung."""


@dataclass(frozen=True, slots=True)
class Step:
    """One colour of the legend."""

    css: str  # class of its swatch
    mark: str  # what stands in a cell of this step; empty where the number does
    words: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the table."""

    src: str
    dst: str
    value: int | None
    css: str
    shown: str


@dataclass(frozen=True, slots=True)
class SiteCell:
    """How the paths from one site to another are, in short."""

    css: str
    shown: str  # "3 of 40"
    words: str


@dataclass(frozen=True, slots=True)
class SiteTable:
    """Sites by sites, those with most bad paths first."""

    sites: list[str]
    rows: list[list[SiteCell | None]]
    left_out: int  # sites that have no row


def legend(metric: Metric) -> list[Step]:
    """The steps of a metric, the best one first."""
    if metric is Metric.LETTER:
        best_first = (*LETTERS[1:], Letter.UNKNOWN)
        return [
            Step(step_css(metric, LETTERS.index(one)), one.value, text.LETTER_MEANING[one])
            for one in best_first
        ]
    if metric is Metric.RUNG:
        return [Step(step_css(metric, i), RUNG_CODE[one], text.RUNG_SHORT[one]) for i, one in enumerate(Rung)]
    return [Step(step_css(metric, i), "", words) for i, words in enumerate(_ranges(metric))]


def _ranges(metric: Metric) -> list[str]:
    most = [_value(metric, value) for value in MOST[metric]]
    first = most[0] if MOST[metric][0] == 0 else f"≤ {most[0]}"
    return [first, *(f"≤ {value}" for value in most[1:]), f"> {most[-1]}"]


def _value(metric: Metric, value: int) -> str:
    return {
        Metric.RTT: text.duration,
        Metric.LOSS: text.loss,
        Metric.LOSS_BACK: text.loss,
        Metric.AGE: text.age,
    }[metric](value)


def step_css(metric: Metric, step: int) -> str:
    """Class of a step's colour."""
    return f"step-{'letter' if metric is Metric.LETTER else 'more'}-{step + 1}"


def step_of(metric: Metric, value: int) -> int:
    """The step, from 0, that a cell's value is drawn in."""
    if metric is Metric.LETTER:
        return LETTERS.index(Letter(chr(value)))
    return sum(value > most for most in MOST[metric])


def script_data() -> str:
    """What the page's script must know of the metrics, as JSON."""
    return msgspec.json.encode(
        {
            "letters": "".join(letter.value for letter in LETTERS),
            "most": {metric.value: most for metric, most in MOST.items()},
            "rungs": "".join(RUNG_CODE[rung] for rung in Rung),
        }
    ).decode()


def table(cells: MatrixCells) -> list[list[Cell | None]] | None:
    """The matrix as rows of a table; None where it would be too large to read."""
    names = cells.agents
    if len(names) > TABLE_MOST:
        return None
    width = cells.packing.cell_bytes
    values = [
        int.from_bytes(cells.cells[at : at + width], "little") for at in range(0, len(cells.cells), width)
    ]
    return [
        [
            None if src == dst else _cell(cells, src, dst, values[y * len(names) + x])
            for x, dst in enumerate(names)
        ]
        for y, src in enumerate(names)
    ]


def _cell(cells: MatrixCells, src: str, dst: str, value: int) -> Cell:
    if value == cells.packing.none:
        return Cell(src, dst, None, "step-none", text.NOTHING)
    css = step_css(cells.metric, step_of(cells.metric, value))
    return Cell(src, dst, value, css, _shown(cells.metric, value))


def _shown(metric: Metric, value: int) -> str:
    if metric is Metric.LETTER:
        return chr(value)
    if metric is Metric.RUNG:
        return RUNG_CODE[tuple(Rung)[value]]
    return _value(metric, value)


def site_table(pairs: Sequence[SitePaths]) -> SiteTable:
    """Lay pairs of sites out; ``pairs`` come with most bad paths first."""
    sites = list(dict.fromkeys(site for pair in pairs for site in (pair.src_site, pair.dst_site)))
    shown = sorted(sites[:SITES_MOST])
    found = {(pair.src_site, pair.dst_site): _site_cell(pair) for pair in pairs}
    rows = [[found.get((src, dst)) for dst in shown] for src in shown]
    return SiteTable(shown, rows, len(sites) - len(shown))


def _site_cell(pair: SitePaths) -> SiteCell:
    letter = Letter.F if 2 * pair.cannot > pair.paths else Letter.D if pair.cannot else Letter.A
    css = step_css(Metric.LETTER, LETTERS.index(letter))
    words = f"{pair.src_site} to {pair.dst_site}: {pair.cannot:,} of {text.plural(pair.paths, 'path')} bad"
    return SiteCell(css, f"{pair.cannot:,} of {pair.paths:,}", words)


def said(letter: Letter, outcome: str) -> str:
    """Say a path's letter as the live region does: 'D, 46 s'."""
    return (
        f"{letter.value}, {text.LETTER_MEANING[letter]}"
        if outcome == text.NOTHING
        else f"{letter.value}, {outcome}"
    )
