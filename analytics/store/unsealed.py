"""The rows of a segment that is not sealed yet, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from analytics.store import seal
from analytics.store.known import BatchKey, KnownBatches


@dataclass(slots=True)
class Unsealed:
    """Arrow tables over the buffers that came over the wire, and the batches they came in."""

    tables: dict[tuple[str, str], list[pa.Table]] = field(default_factory=dict)  # (table, day)
    batches: KnownBatches = field(default_factory=KnownBatches)
    rows: int = 0
    size: int = 0  # bytes
    hours: set[int] = field(default_factory=set)  # of receipt, since 1970
    damaged: bool = False  # the segment's file has a fault in the middle: keep it when sealed

    def add(self, tables: dict[str, pa.Table], received_us: int, key: BatchKey) -> None:
        """Take up the rows of one batch."""
        day = seal.day_of(received_us)
        self.hours.add(received_us // seal.HOUR_US)
        for name, table in tables.items():
            self.tables.setdefault((name, day), []).append(table)
            self.rows += table.num_rows
            self.size += table.get_total_buffer_size()
        self.batches.add(key)

    def parts(self, table: str) -> Iterator[pa.Table]:
        """Rows of one table, of all days."""
        for (name, _), tables in self.tables.items():
            if name == table:
                yield from tables
