"""The rows of a segment that is not sealed yet, in memory."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from analytics.batch import Batch
from analytics.clock import HOUR_US
from analytics.store import seal
from analytics.store.columns import tables_of
from analytics.store.known import BatchKey, KnownBatches

ORIGIN_BYTES: Final = 24
"""What the store adds to a row (``Origin``), beside the names of its sender and that sender's boot."""
SHARES: Final = 64
"""Into so many the agents of a tenant are dealt: who asks for one need not look through all others' rows."""
APART_MOST: Final = 8
"""Pieces of a table that are left as they came. A batch of one test is 3 kB on the wire and 80 kB as Arrow,
for the objects of 80 columns; many in one piece take what they have in them."""
PIECE_ROWS: Final = 4_096
"""A piece of so many rows is not copied again."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One checked batch, over the buffers that came over the wire."""

    batch: Batch
    tenant: str
    received_us: int


def share_of(agent: str) -> int:
    """Deal an agent to one of the shares."""
    return zlib.crc32(agent.encode()) % SHARES


class Gathered:
    """What the agents of one share sent on one day, as it came, and as Arrow once somebody has asked.

    It is wrapped when somebody first asks, not while the sender waits. That cannot fail: what ``check_batch``
    has passed is what Arrow wants (``tests/property/test_glance.py``).
    """

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        """By table."""
        self._came: list[Arrived] = []
        self._pieces: dict[str, list[pa.Table]] = {}
        self._lock = threading.Lock()  # of who wraps; not of who adds

    def add(self, arrived: Arrived) -> None:
        """Take up a batch; one thread at a time."""
        for name, block in arrived.batch.tables.items():
            if block.rows:
                self.rows[name] = self.rows.get(name, 0) + block.rows
        self._came.append(arrived)

    def tables(self, name: str) -> list[pa.Table]:
        """All rows of a table in some pieces. From any thread; what comes meanwhile may be among them."""
        with self._lock:
            self._wrap()
            return [*self._pieces.get(name, ())]

    def _wrap(self) -> None:
        """Each batch wholly or not at all: it may be for want of memory, and no row may come twice."""
        done = 0
        try:
            for one in [*self._came]:  # more may come
                wrapped = tables_of(one.batch, tenant=one.tenant, received_us=one.received_us)
                self._pieces |= {
                    name: _few([*self._pieces.get(name, ()), table]) for name, table in wrapped.items()
                }
                done += 1
        finally:
            del self._came[:done]


def _few(pieces: list[pa.Table]) -> list[pa.Table]:
    """Copy small pieces into one where there are too many of them."""
    small = [piece for piece in pieces if piece.num_rows < PIECE_ROWS]
    if len(small) <= APART_MOST:
        return pieces
    full = [piece for piece in pieces if piece.num_rows >= PIECE_ROWS]
    return [*full, pa.concat_tables(small).combine_chunks()]


@dataclass(slots=True)
class Unsealed:
    """What a segment holds, and the batches that it came in."""

    gathered: dict[tuple[str, int, str], Gathered] = field(default_factory=dict)
    """By tenant, share of the agents and day of receipt."""
    batches: KnownBatches = field(default_factory=KnownBatches)
    rows: int = 0
    size: int = 0  # bytes
    hours: dict[str, set[int]] = field(default_factory=dict)  # of receipt, since 1970, by tenant
    damaged: bool = False  # the segment's file has what is not taken up: keep it when sealed

    def add(self, arrived: Arrived, body_bytes: int, key: BatchKey) -> None:
        """Take up the rows of one batch."""
        rows = sum(block.rows for block in arrived.batch.tables.values())
        self.hours.setdefault(arrived.tenant, set()).add(arrived.received_us // HOUR_US)
        place = (arrived.tenant, share_of(key.agent), seal.day_of(arrived.received_us))
        gathered = self.gathered.get(place)
        if gathered is None:
            gathered = self.gathered[place] = Gathered()
        gathered.add(arrived)
        self.rows += rows
        self.size += body_bytes + rows * (ORIGIN_BYTES + len(key.agent) + len(key.boot))
        self.batches.add(key)

    def having(self, table: str, tenant: str, agents: Collection[str] | None = None) -> list[Gathered]:
        """Find what has rows of a table: of a tenant's agents, or of the shares that some of them are in."""
        shares = range(SHARES) if agents is None else {share_of(agent) for agent in agents}
        return [
            gathered
            for (of, share, _day), gathered in self.gathered.items()
            if of == tenant and share in shares and table in gathered.rows
        ]

    def counts(self, tenant: str | None) -> Iterator[tuple[str, int]]:
        """Count rows by table, of a tenant or of all; a table may come more than once."""
        for (of, _share, _day), gathered in self.gathered.items():
            if tenant in (None, of):
                yield from gathered.rows.items()

    def tables(self) -> dict[tuple[str, str, str], list[pa.Table]]:
        """All rows, by tenant, table and day of receipt; of a segment that is written no more."""
        found: dict[tuple[str, str, str], list[pa.Table]] = {}
        for (tenant, _share, day), gathered in self.gathered.items():
            for name in gathered.rows:
                found.setdefault((tenant, name, day), []).extend(gathered.tables(name))
        return found
