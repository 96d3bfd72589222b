"""Two moments beside each other, drawn for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from analytics.compare import Comparison
from analytics.measurement import Letter
from server.pages import text
from server.pages.history import Group as Changes
from server.pages.history import Line, diff_view
from server.pages.tables import LETTER_STYLE, Column, draw, plain

_LABELS: Final = ("RTT", "Loss", "Capacity")


def comparison(told: Comparison, width: int) -> RenderableType:
    """Draw what changed: the sentence, both verdicts, then the changes under their cause."""
    view = diff_view(plain(told))
    return Group(
        Text(view.told.headline, style="bold"),
        Text(f"before  {text.clock(view.told.before_us)}  {view.told.verdict_before}"),
        Text(f"after   {text.clock(view.told.after_us)}  {view.told.verdict_after}"),
        Text(", ".join(f"{count:,} {words}" for words, count in view.counts), style="dim"),
        *(part for group in view.groups for part in _group(group, width)),
        *(
            [Text(f"{view.told.left_out:,} more changes are counted only", style="dim")]
            * bool(view.told.left_out)
        ),
    )


def _group(group: Changes, width: int) -> Iterator[RenderableType]:
    yield Text("")
    yield Text(f"{group.title}. {group.cause.sentence}" if group.cause else f"{group.title}.", style="bold")
    yield draw(_COLUMNS, group.lines, width)
    if group.left_out:
        yield Text(f"and {group.left_out:,} more (--json has all)", style="dim")


def _letters(line: Line) -> Text:
    return Text(" → ").join([_letter(line.change.before), _letter(line.change.after)])


def _letter(letter: Letter | None) -> Text:
    return Text("·", style="dim") if letter is None else Text(letter.value, style=LETTER_STYLE[letter])


def _number(place: int) -> Column[Line]:
    def written(line: Line) -> str:
        number = line.numbers[place]
        return number.now if number.was == number.now else f"{number.was} → {number.now}"

    return Column(_LABELS[place], written, from_width=(0, 70, 100)[place])


_COLUMNS: Final[list[Column[Line]]] = [
    Column("", _letters, side="left"),
    Column("path", lambda line: f"{line.change.src} → {line.change.dst}", side="left"),
    Column("", lambda line: line.what, side="left", from_width=90),
    _number(0),
    _number(1),
    _number(2),
    Column("reached", lambda line: line.rungs, side="left", from_width=120),
]
