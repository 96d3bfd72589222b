"""Readings with what both ends signed of them, from the store: for a file of receipts.

Both tables come in one order, so only one row of each is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from analytics.errors import SealError
from analytics.exports import rows_of
from analytics.measurement import Reading, Receipt
from analytics.receipt_file import Line, line_of
from analytics.store.store import Store
from analytics.store.stream import Range


def receipt_lines(store: Store, of: Range, *, src: str | None, dst: str | None) -> Iterator[Line]:
    """Give a line for each reading, signed or not, by time. Raises ``StoreError``.

    A reading that cannot be laid out (none that an agent of ours sends) has no line.
    """
    beside = _Beside(rows_of(store, "receipts", of, Receipt))
    for reading in rows_of(store, "readings", of, Reading):
        if src in (None, reading.src) and dst in (None, reading.dst):
            with suppress(SealError):
                yield line_of(reading, beside.of(reading))


class _Beside:
    """One receipt after the other; they come in the same order as the readings."""

    def __init__(self, rows: Iterable[Receipt]) -> None:
        self._rows = iter(rows)
        self._ahead = next(self._rows, None)

    def of(self, reading: Reading) -> Receipt | None:
        """Find the receipt of a reading; of several, the first."""
        wanted = _key(reading)
        while self._ahead is not None and _key(self._ahead) < wanted:
            self._ahead = next(self._rows, None)
        return self._ahead if self._ahead is not None and _key(self._ahead) == wanted else None


def _key(row: Reading | Receipt) -> tuple[int, str, str, str]:
    return row.cycle, row.test, row.src, row.dst
