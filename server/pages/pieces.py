"""A long list in pieces: which rows a page shows, and which numbers lead to the others. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Query

T = TypeVar("T")

Start = Annotated[int, Query(ge=0, le=10**6, description="first row of the piece")]


@dataclass(frozen=True, slots=True)
class Piece(Generic[T]):
    """Some rows of a list."""

    rows: Sequence[T]
    start: int
    of: int
    before: int | None  # start of the piece before; None: this is the first
    after: int | None

    @property
    def words(self) -> str:
        """Say which rows these are: '101 to 200 of 1,000'."""
        return f"{self.start + 1:,} to {self.start + len(self.rows):,} of {self.of:,}"


def piece_of(rows: Sequence[T], start: int, size: int) -> Piece[T]:
    """Cut the piece at ``start``; one that begins beyond the end is the last."""
    start = min(start, max(0, len(rows) - 1)) // size * size
    return Piece(
        rows=rows[start : start + size],
        start=start,
        of=len(rows),
        before=start - size if start else None,
        after=start + size if start + size < len(rows) else None,
    )
