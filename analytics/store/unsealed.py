"""The rows of a segment that is not sealed yet, in memory."""

from __future__ import annotations

from collections.abc import Container, Iterator
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


class Arrived:
    """The rows of one checked batch, over the buffers that came over the wire.

    They are wrapped as Arrow when somebody first asks, not while the sender waits. That cannot fail: what
    ``check_batch`` has passed is what Arrow wants (``tests/property/test_glance.py``).
    """

    def __init__(self, batch: Batch, tenant: str, received_us: int) -> None:
        self.tenant = tenant
        self.received_us = received_us
        self.agent = batch.agent
        self.rows = {name: block.rows for name, block in batch.tables.items() if block.rows}
        self._told: Batch | None = batch
        self._tables: dict[str, pa.Table] = {}

    def tables(self) -> dict[str, pa.Table]:
        """Its tables that have rows. From any thread: who comes at the same time makes the same."""
        batch = self._told
        if batch is not None:
            self._tables = tables_of(batch, tenant=self.tenant, received_us=self.received_us)
            self._told = None  # only now: who sees None finds the tables
        return self._tables


@dataclass(slots=True)
class Unsealed:
    """What a segment holds, and the batches that it came in."""

    arrived: list[Arrived] = field(default_factory=list)
    batches: KnownBatches = field(default_factory=KnownBatches)
    rows: int = 0
    size: int = 0  # bytes
    hours: dict[str, set[int]] = field(default_factory=dict)  # of receipt, since 1970, by tenant
    damaged: bool = False  # the segment's file has what is not taken up: keep it when sealed

    def add(self, arrived: Arrived, body_bytes: int, key: BatchKey) -> None:
        """Take up the rows of one batch."""
        rows = sum(arrived.rows.values())
        self.hours.setdefault(arrived.tenant, set()).add(arrived.received_us // HOUR_US)
        self.arrived.append(arrived)
        self.rows += rows
        self.size += body_bytes + rows * (ORIGIN_BYTES + len(key.agent) + len(key.boot))
        self.batches.add(key)

    def having(self, table: str, tenant: str, agents: Container[str] | None = None) -> Iterator[Arrived]:
        """Batches of a tenant that have rows of a table, of all its agents or of some."""
        return (
            one
            for one in self.arrived
            if one.tenant == tenant and table in one.rows and (agents is None or one.agent in agents)
        )

    def tables(self) -> dict[tuple[str, str, str], list[pa.Table]]:
        """All rows, by tenant, table and day of receipt; of a segment that is written no more."""
        found: dict[tuple[str, str, str], list[pa.Table]] = {}
        for arrived in self.arrived:
            day = seal.day_of(arrived.received_us)
            for name, table in arrived.tables().items():
                found.setdefault((arrived.tenant, name, day), []).append(table)
        return found
