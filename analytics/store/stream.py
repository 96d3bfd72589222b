"""Facts of a time range as a stream of Arrow batches, in bounded memory: for exports.

The range is cut into days of cycles (of windows for flows), and each day is sorted and read on its own, by a
DuckDB of its own with little memory, which spills to the disk. A file that is merged away meanwhile stays
readable: it is held open, and read by its descriptor. Over a lake, the database that answers reads it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from analytics.clock import DAY_US
from analytics.errors import StoreError
from analytics.store import seal
from analytics.store.columns import SCHEMAS
from analytics.store.facts import Days
from analytics.store.query import Limits, connect, facts
from analytics.store.shelf import Held
from analytics.store.store import Store

LIMITS: Final = Limits(memory_mb=256, threads=1)
BATCH_ROWS: Final = 20_000
LATE_DAYS: Final = 8
"""An agent keeps what it could not send for a week: rows of a day are looked for in files of these days."""
TRIES: Final = 5

AT_US: Final[dict[str, str]] = {
    "readings": "cycle * 1000000",
    "hops": "cycle * 1000000",
    "flows": "window_us",
    "receipts": "cycle * 1000000",
}
"""Table -> when a row was measured."""
_AGENTS: Final[dict[str, tuple[str, ...]]] = {
    "readings": ("src", "dst"),
    "hops": ("src", "dst"),
    "flows": ("agent",),
    "receipts": ("src", "dst"),
}
_ORDER: Final[dict[str, str]] = {
    "readings": "cycle, test, src, dst, received_us, batch",
    "receipts": "cycle, test, src, dst, received_us, batch",
    "hops": "cycle, test, src, ttl, received_us, batch",
    "flows": "window_us, agent, process, remote_address, service_port, direction, received_us, batch",
}


@dataclass(frozen=True, slots=True)
class Range:
    """Which rows are asked for; measured from ``since_us`` on, and before ``until_us``."""

    tenant: str
    since_us: int
    until_us: int
    agents: frozenset[str] | None = None  # with one of these at an end; None = all


def stream(store: Store, table: str, of: Range, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Give the rows by time; raises ``StoreError`` where a file cannot be read."""
    schema = pa.schema([SCHEMAS[table].field(name) for name in columns])
    with _database(store) as database:
        reader = _Reader(database, store, table, schema, of)
        for since_us, until_us in _days(of):
            with ExitStack() as held:
                yield from reader.day(since_us, until_us, held)


def _days(of: Range) -> Iterator[tuple[int, int]]:
    since_us = of.since_us
    while since_us < of.until_us:
        until_us = min(of.until_us, since_us - since_us % DAY_US + DAY_US)
        yield since_us, until_us
        since_us = until_us


@contextmanager
def _database(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    if (shared := store.database()) is not None:
        with shared:
            yield shared
        return
    with tempfile.TemporaryDirectory(prefix="pathgrade-export-") as spill:
        database = connect(LIMITS, Path(spill))
        # Two days may hold different files under one descriptor: nothing may be remembered by name.
        database.execute("SET enable_external_file_cache = false")
        try:
            yield database
        finally:
            database.close()


@dataclass(frozen=True, slots=True)
class _Reader:
    """What all days of one stream share."""

    database: duckdb.DuckDBPyConnection
    store: Store
    table: str
    schema: pa.Schema
    of: Range

    def day(self, since_us: int, until_us: int, held: ExitStack) -> Iterator[pa.RecordBatch]:
        days = seal.day_of(max(0, since_us - DAY_US)), seal.day_of(until_us + LATE_DAYS * DAY_US)
        files, now = _hold(self.store, self.table, self.of.tenant, days, held)
        shared = self.store.shared(self.table, self.of.tenant, days, now)
        if shared:  # whose database remembers files by name
            files = [str(Path(name).readlink()) for name in files]
        given: dict[str, Any] = {"tenant": self.of.tenant, "since_us": since_us, "until_us": until_us}
        given |= {"files": files} if files else {}
        given |= shared.given if shared else {}
        given |= {"agents": sorted(self.of.agents)} if self.of.agents is not None else {}
        self.database.register("fresh", now.fresh)
        rows = f"facts AS NOT MATERIALIZED ({facts(self.table, bool(files), shared)})"
        try:
            answer = self.database.execute(f"WITH {rows} {self._question()}", given)
            yield from (_typed(batch, self.schema) for batch in answer.to_arrow_reader(BATCH_ROWS))
        except (duckdb.Error, pa.ArrowException) as error:
            raise StoreError(
                f"reading {self.table}: {error}", remedy="see the server's log for the file"
            ) from error
        finally:
            self.database.unregister("fresh")

    def _question(self) -> str:
        """Only names of tables and columns, which are constants, are put into the text."""
        ends = " OR ".join(f"list_contains($agents, {name})" for name in _AGENTS[self.table])
        chosen = "" if self.of.agents is None else f" AND ({ends})"
        at = AT_US[self.table]
        return f"""
            SELECT {", ".join(self.schema.names)} FROM facts
            WHERE tenant = $tenant AND {at} >= $since_us AND {at} < $until_us{chosen}
            ORDER BY {_ORDER[self.table]}
        """  # noqa: S608  # see above


def _typed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """With the descriptions and units of the vocabulary."""
    return pa.RecordBatch.from_arrays(
        [array.cast(field.type) for array, field in zip(batch.columns, schema, strict=True)], schema=schema
    )


def _hold(store: Store, table: str, tenant: str, days: Days, held: ExitStack) -> tuple[list[str], Held]:
    """Open a tenant's files of some days, so that they stay readable; again where one was merged away."""
    for _ in range(TRIES):
        with ExitStack() as opened:
            now = store.held(table, tenant)
            chosen = [file.path for file in now.files if days[0] <= file.day <= days[1]]
            try:
                names = [_open(path, opened) for path in chosen]
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(
                    f"reading {table}: {error}", remedy="raise the limit of open files (LimitNOFILE)"
                ) from error
            held.enter_context(opened.pop_all())
            return names, now
    raise StoreError(f"reading {table}: its files changed again and again", remedy="export again")


def _open(path: Path, opened: ExitStack) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    return f"/proc/self/fd/{descriptor}"
