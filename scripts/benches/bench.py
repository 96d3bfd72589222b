"""What a bench is to the command: figures with targets, and one function that measures them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benches.figures import Figure, Results

Say = Callable[[str], None]


class Report(NamedTuple):
    """What came of it."""

    cells: Results
    details: Sequence[str]  # lines below the table
    more: Mapping[str, Any]  # for the JSON only


class Bench(NamedTuple):
    """One bench, as ``scripts/bench NAME``."""

    name: str
    words: str  # in the list of benches
    description: str
    figures: Sequence[Figure]
    headings: Mapping[str, str]  # column -> how it is called in the table
    judged: str  # the column that the targets are for
    needs: Callable[[], None]  # raises NeedsError
    measure: Callable[[bool, Path, Say], Report]  # (quick, a folder for scratch, progress); raises BenchError
    resized: Callable[[int], Bench] | None = None  # (--agents N) -> the same bench of so many agents
    chosen: Callable[[str], Bench] | None = None  # (--cells WORDS) -> the same bench of these cells only


def nothing_needed() -> None:
    """The ``needs`` of a bench that only computes."""
