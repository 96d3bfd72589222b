"""The letters of all paths in a terminal: agent by agent where they fit, else site by site. Pure.

Rows are sources, columns destinations, numbered as the rows are. Agents of a site stand together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from analytics.letters import BAD
from analytics.measurement import Letter
from analytics.paths import WORST_FIRST
from server.api.packed import Head
from server.pages import text
from server.pages.tables import LETTER_STYLE, plain

NOTHING: Final = "·"
MOST_NAME: Final = 24
GAP: Final = 1
"""Columns between two cells, and one more between two sites."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What is told of one cell."""

    letter: Letter | None  # of several paths the worst; None = not measured
    bad: int = 0  # of several paths, those nobody can work over


@dataclass(frozen=True, slots=True)
class Grid:
    """Something to draw: a name for each row, where a cluster ends, and the cells."""

    names: list[str]
    clusters: list[str]  # of each row
    cells: list[list[Cell | None]]  # None: there is no path from something to itself
    cell_width: int

    def width(self) -> int:
        """Columns that it takes."""
        return self.name_width + sum(self._gap(place) + self.cell_width for place in range(len(self.names)))

    @property
    def name_width(self) -> int:
        """Columns of the widest row's name, its number before it."""
        return len(str(len(self.names))) + 1 + max(map(len, self.names), default=0)

    def _gap(self, place: int) -> int:
        return GAP + (place > 0 and self.clusters[place] != self.clusters[place - 1])

    def line(self, place: int) -> Text:
        """Draw a row."""
        digits = len(str(len(self.names)))
        line = Text(f"{place + 1:>{digits}} {self.names[place]:<{self.name_width - digits - 1}}")
        for column, cell in enumerate(self.cells[place]):
            line.append(" " * self._gap(column))
            line.append_text(_cell(cell, self.cell_width))
        return line

    def head(self) -> Text:
        """Draw the numbers of the columns."""
        numbers = (" " * self._gap(at) + f"{at + 1:>{self.cell_width}}" for at in range(len(self.names)))
        return Text(" " * self.name_width + "".join(numbers), "dim")


def drawn(head: Head, cells: bytes, width: int, *, by_site: bool | None = None) -> RenderableType:
    """Draw a matrix: by site if that is asked for, or if agents do not fit the width (None)."""
    head = plain(head)
    sites = not _fits(head, width) if by_site is None else by_site
    grid = of_sites(head, cells) if sites else of_agents(head, cells)
    shown = cut(grid, width)
    return Group(
        shown.head(),
        *(shown.line(place) for place in range(len(shown.names))),
        "",
        Text(_caption(head, cells, grid, shown, sites=sites), "dim"),
    )


def _fits(head: Head, width: int) -> bool:
    """Tell whether a grid of all agents would fit, without making its cells."""
    return Grid(_names(head), head.sites, [], len(str(len(head.agents)))).width() <= width


def _names(head: Head) -> list[str]:
    told = zip(head.agents, head.sites, strict=True)
    return [_short(f"{site} {agent}" if agent != site else agent) for agent, site in told]


def of_agents(head: Head, cells: bytes) -> Grid:
    """Make a grid of all agents."""
    count = len(head.agents)
    rows = [
        [None if row == column else Cell(_letter(cells[row * count + column])) for column in range(count)]
        for row in range(count)
    ]
    return Grid(_names(head), head.sites, rows, cell_width=len(str(count)))


def of_sites(head: Head, cells: bytes) -> Grid:
    """Make a grid of sites: the worst letter between two, and how many paths of them are bad."""
    sites = sorted(set(head.sites))
    of = {site: [place for place, other in enumerate(head.sites) if other == site] for site in sites}
    rows = [[_between(of[src], of[dst], cells, len(head.agents)) for dst in sites] for src in sites]
    most = max((cell.bad for row in rows for cell in row if cell is not None), default=0)
    return Grid([_short(site) for site in sites], sites, rows, cell_width=1 + len(str(most)) if most else 1)


def _between(sources: Sequence[int], destinations: Sequence[int], cells: bytes, count: int) -> Cell | None:
    """Sum up the paths between two sites; None where there can be none."""
    codes: Counter[int] = Counter()
    for row in sources:
        line = cells[row * count : (row + 1) * count]
        codes.update(line[column] for column in destinations if column != row)
    if not codes:
        return None
    letters = {letter: codes[ord(letter.value)] for letter in WORST_FIRST if codes[ord(letter.value)]}
    return Cell(next(iter(letters), None), sum(letters.get(letter, 0) for letter in BAD))


def cut(grid: Grid, width: int) -> Grid:
    """Leave out what the width has no room for: those with the fewest bad paths first."""
    if grid.width() <= width:
        return grid
    worst_first = sorted(range(len(grid.names)), key=lambda place: (-_badness(grid, place), place))
    room = 1
    while room < len(worst_first) and _part(grid, sorted(worst_first[: room + 1])).width() <= width:
        room += 1
    return _part(grid, sorted(worst_first[:room]))


def _part(grid: Grid, places: Sequence[int]) -> Grid:
    return Grid(
        [grid.names[place] for place in places],
        [grid.clusters[place] for place in places],
        [[grid.cells[row][column] for column in places] for row in places],
        grid.cell_width,
    )


def _badness(grid: Grid, place: int) -> int:
    cells = [*grid.cells[place], *(row[place] for row in grid.cells)]
    return sum(max(cell.bad, cell.letter in BAD) for cell in cells if cell is not None)


def _cell(cell: Cell | None, width: int) -> Text:
    if cell is None:
        return Text(" " * width)
    if cell.letter is None:
        return Text(f"{NOTHING:>{width}}", "dim")
    told = f"{cell.letter.value}{cell.bad or ''}" if cell.bad else cell.letter.value
    return Text(f"{told:>{width}}", LETTER_STYLE[cell.letter])


def _letter(code: int) -> Letter | None:
    return _LETTERS.get(code)


_LETTERS: Final = {ord(letter.value): letter for letter in Letter}


def _short(name: str) -> str:
    return name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 1]}…"


def _caption(head: Head, cells: bytes, grid: Grid, shown: Grid, *, sites: bool) -> str:
    counts = Counter(map(_letter, cells))
    told = ", ".join(f"{counts[letter]:,} {letter.value}" for letter in WORST_FIRST if counts[letter])
    what = "the worst letter between two sites, and how many paths nobody can work over" if sites else ""
    left = len(grid.names) - len(shown.names)
    cut_ = f"{left} {'sites' if sites else 'agents'} with fewer bad paths are left out" if left else ""
    of = f"{text.plural(len(head.agents), 'agent')}, graded for {head.profile}: {told or 'nothing measured'}"
    return "; ".join(filter(None, ("row → column", what, cut_, of)))


def as_rows(head: Head, cells: bytes) -> list[str]:
    """Write each agent's row as text, a letter a column; a blank is not measured."""
    count = len(head.agents)
    return [cells[row * count : (row + 1) * count].decode("ascii") for row in range(count)]
