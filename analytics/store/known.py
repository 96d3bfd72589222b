"""Which batches are kept already, as ranges: an agent numbers its batches, so a whole life is one range."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

Ranges = list[tuple[int, int]]


class BatchKey(NamedTuple):
    """Names a batch for ever."""

    tenant: str
    agent: str
    boot: str
    batch: int


Source = tuple[str, str, str]
"""Tenant, agent, boot."""


class KnownBatches:
    """A set of ``BatchKey`` whose size grows with gaps, not with batches."""

    def __init__(self, sources: Iterable[tuple[Source, Ranges]] = ()) -> None:
        self._ranges: dict[Source, Ranges] = {}
        for source, ranges in sources:
            for low, high in ranges:
                self._insert(source, low, high)

    def __contains__(self, key: BatchKey) -> bool:
        ranges = self._ranges.get(key[:3], [])
        at = bisect_right(ranges, key.batch, key=_low) - 1
        return at >= 0 and key.batch <= ranges[at][1]

    def __iter__(self) -> Iterator[tuple[Source, Ranges]]:
        return iter(self._ranges.items())

    def of(self, tenant: str) -> KnownBatches:
        """Only those of one tenant."""
        return KnownBatches((source, ranges) for source, ranges in self if source[0] == tenant)

    def add(self, key: BatchKey) -> None:
        """Remember one batch."""
        self._insert(key[:3], key.batch, key.batch)

    def update(self, other: KnownBatches) -> None:
        """Remember all that ``other`` knows."""
        for source, ranges in other:
            for low, high in ranges:
                self._insert(source, low, high)

    def _insert(self, source: Source, low: int, high: int) -> None:
        """Add a range, joined with those it overlaps or touches."""
        ranges = self._ranges.setdefault(source, [])
        start = bisect_right(ranges, low, key=_low)
        if start and ranges[start - 1][1] >= low - 1:
            start -= 1
        end = bisect_right(ranges, high + 1, key=_low)
        joined = [*ranges[start:end], (low, high)]
        ranges[start:end] = [(min(map(_low, joined)), max(top for _, top in joined))]


def _low(bounds: tuple[int, int]) -> int:
    return bounds[0]
