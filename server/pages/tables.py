"""Tables for a terminal: columns that a narrow one leaves out, and text of other hosts made harmless."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
from rich.table import Table
from rich.text import Text

from analytics.measurement import Letter

LETTER_STYLE: Final[dict[Letter, str]] = {
    Letter.A: "bold green",
    Letter.B: "bold green",
    Letter.C: "bold yellow",
    Letter.D: "bold red",
    Letter.F: "bold red",
    Letter.UNREACHABLE: "bold red",
    Letter.UNKNOWN: "bold dim",
}
CONTROLS: Final = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}")
"""C0, DEL and C1 (ECMA-48): ESC and CSI among them."""

T = TypeVar("T")
Told = TypeVar("Told", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One column: its head, what it shows, and the least terminal width at which it is shown."""

    head: str
    show: Callable[[T], str | Text]
    from_width: int = 0
    side: Literal["left", "right"] = "right"
    wraps: bool = False  # takes what width the others leave, on as many lines as it needs


def draw(columns: Sequence[Column[T]], rows: Sequence[T], width: int) -> Table:
    """Draw rows in the columns that the width allows."""
    shown = [column for column in columns if width >= column.from_width]
    drawn = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    for column in shown:
        drawn.add_column(column.head, justify=column.side, no_wrap=not column.wraps, min_width=1)
    for row in rows:
        drawn.add_row(*(cell(column.show(row)) for column in shown))
    return drawn


def plain(told: Told) -> Told:
    """Replace the control characters in every text of a message."""
    return msgspec.structs.replace(
        told, **{name: plain_value(getattr(told, name)) for name in told.__struct_fields__}
    )


def plain_value(value: Any) -> Any:
    """Replace them in any value."""
    if type(value) is str:  # not an enumeration's member, which is of our own making
        return value.translate(CONTROLS)
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {plain_value(key): plain_value(item) for key, item in value.items()}
    return plain(value) if isinstance(value, msgspec.Struct) else value


def cell(shown: str | Text) -> Text:
    """Make a cell of text as it is.

    A bare string would be read as markup: '[link=...]' in a process's name as an escape sequence.
    """
    return shown if isinstance(shown, Text) else Text(shown)
