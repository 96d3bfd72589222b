"""What a file of receipts proves, drawn for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from analytics.receipt_file import Findings, PathSum
from server.pages import text
from server.pages.tables import Column, draw, plain

MOST_NAMES: Final = 12
_PATHS: Final[list[Column[PathSum]]] = [
    Column("path", lambda path: f"{path.src} \N{RIGHTWARDS ARROW} {path.dst}", side="left"),
    Column("both signed", lambda path: f"{path.readings:,}"),
    Column("one end", lambda path: f"{path.one_end:,}", from_width=70),
    Column("unsigned", lambda path: f"{path.unsigned:,}", from_width=80),
    Column("loss", lambda path: text.loss(path.loss_bp)),
    Column("least", lambda path: text.ms(path.rtt_min_us), from_width=70),
    Column("medians", lambda path: _range(path.rtt_p50_least_us, path.rtt_p50_most_us)),
    Column("worst 95 %", lambda path: text.ms(path.rtt_p95_most_us), from_width=90),
    Column("longest gap", lambda path: text.age(path.longest_gap_s), from_width=100),
    Column("from", lambda path: _at(path.first_cycle), from_width=110),
    Column("to", lambda path: _at(path.last_cycle), from_width=120),
]


def findings(told: Findings, width: int) -> RenderableType:
    """Draw what holds, what does not and why, whose keys are known, and each path's sums."""
    found = plain(told)
    lines = [Text(headline(found), style="bold red" if found.false else "bold")]
    lines += [Text(line) for line in _lines(found)]
    return Group(*lines, Text(""), draw(_PATHS, found.paths, width))


def headline(found: Findings) -> str:
    """Say in a sentence what the file proves."""
    false = sum(found.false.values())
    if false:
        return f"FALSE: {false:,} of {text.plural(found.lines, 'reading')} do not hold."
    if not found.both:
        return f"Nothing is proven: none of {text.plural(found.lines, 'reading')} is signed by both ends."
    what = f"{found.both:,} of {text.plural(found.lines, 'reading')} are signed by both ends"
    if found.from_file:
        return f"{what}, but not all keys are anchored: this is only as good as who wrote the file."
    return f"{what}, with anchored keys."


def _lines(found: Findings) -> Iterator[str]:
    for why, count in found.false.items():
        where = ", ".join(str(number) for number, reason in found.false_lines[:MOST_NAMES] if reason == why)
        yield f"  false: {count:,} {why}" + (f" (line {where})" if where else "")
    for why, count in found.why_one_end.items():
        yield f"  one end only: {count:,} {why}"
    if found.unsigned:
        yield f"  unsigned: {found.unsigned:,}"
    if found.anchored:
        yield f"  keys from the anchors: {_names(found.anchored)}"
    if found.from_file:
        yield f"  keys from this file only: {_names(found.from_file)}"
    for name, count in found.several_keys.items():
        yield f"  {name} has {count} keys in this file: was it reinstalled?"


def _names(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def _range(least: int | None, most: int | None) -> str:
    return text.NOTHING if least is None else f"{text.ms(least)} to {text.ms(most)}"


def _at(cycle: int | None) -> str:
    return text.NOTHING if cycle is None else text.iso(cycle * 1_000_000)
