"""A path's hops in a terminal, with the legs they stand in: printed once, or drawn again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.table import Table
from rich.text import Text

from server.pages import text
from server.pages.tables import Column, cell
from server.pages.views import HopGroup, HopLine

WIDE_FROM: Final = 100
"""Narrower terminals have one blank between columns, else two."""


@dataclass(frozen=True, slots=True)
class Row:
    """One hop and where it stands."""

    leg: str  # empty where the row above stands in the same leg
    line: HopLine


def hop_table(groups: Sequence[HopGroup], width: int) -> Table:
    """Draw hops, each leg named at its first hop, in the columns that the width allows."""
    shown = [column for column in HOP_COLUMNS if width >= column.from_width]
    gap = 1 if width >= WIDE_FROM else 0
    table = Table(box=None, padding=(0, 1, 0, gap), header_style="dim", pad_edge=False)
    for column in shown:
        table.add_column(column.head, justify=column.side, no_wrap=not column.wraps)
    for row in _rows(groups):
        table.add_row(*(cell(column.show(row)) for column in shown), style="bold" if row.line.largest else "")
    return table


def _rows(groups: Sequence[HopGroup]) -> list[Row]:
    return [
        Row(group.leg if place == 0 else "", line)
        for group in groups
        for place, line in enumerate(group.lines)
    ]


def _note(row: Row) -> Text:
    marked = [("◄ most", "yellow")] if row.line.largest else []
    told = [*marked, *((note, "") for note in row.line.notes)]
    return Text("; ").join(Text(*one) for one in told)


HOP_COLUMNS: Final[tuple[Column[Row], ...]] = (
    Column("leg", lambda row: row.leg, side="left", wraps=True),
    Column("hop", lambda row: str(row.line.hop.ttl)),
    Column("address", lambda row: row.line.hop.address or "no answer", side="left"),
    Column("min", lambda row: text.tenths(row.line.hop.rtt_min_us)),
    Column("p50", lambda row: text.tenths(row.line.hop.rtt_p50_us)),
    Column("p95", lambda row: text.tenths(row.line.hop.rtt_p95_us), from_width=66),
    Column("answers", lambda row: f"{row.line.hop.answered}/{row.line.hop.sent}", from_width=58),
    Column("added", lambda row: text.tenths(row.line.added_us)),
    Column("", _note, side="left", wraps=True),
)
