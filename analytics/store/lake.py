"""A lake: sealed rows that several servers share: a catalog in PostgreSQL, Parquet in shared storage.

READ FIRST: ``Lake.seal``. Below the root of the data::

    pathgrade.lake                                                  a folder without it is not mounted
    main/<table>/tenant=<tenant>/day=<day>/
        <writer>-<segment>-<digest>.parquet      written by us, durable before it counts
        ducklake-<uuid>.parquet                  what small files were merged into

One transaction of the catalog seals a segment: its files are added, and this server's *token* is replaced
by that of the segment. The token is the only row of the table ``sealed_<writer>``. Whoever repeats a seal
finds its token there and adds nothing. Two that race replace the same row: one is refused, looks again, and
finds it.

Questions read the snapshot of the last commit that the shelf was told of, so no row is seen both in the lake
and in memory. Rows of other servers are seen after the next seal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import BinaryIO, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from analytics.errors import LakeError, LakeSetupError
from analytics.measurement import FACTS
from analytics.store import lake_catalog, seal, tidy
from analytics.store.columns import SORT_ORDER, STORED
from analytics.store.facts import Days
from analytics.store.known import KnownBatches
from analytics.store.lake_catalog import Catalog, Cursor
from analytics.store.lake_engine import first_line
from analytics.store.lake_files import DataFiles
from analytics.store.lake_ledger import Ledger
from analytics.store.lake_tables import DAY, TENANT, shared_rows
from analytics.store.ordered import encodings
from analytics.store.query import Shared
from analytics.store.seal import DayTables
from analytics.store.shelf import Held, Shelf
from analytics.store.tidy import Keep

log: Final = logging.getLogger(__name__)

UPKEEP_EVERY_US: Final = 3_600_000_000
KEEP: Final = "1 day"
"""Old snapshots, and files that were merged into others: by then readers are done with them, and the disk has
what DuckDB wrote in their place without waiting for it."""


def token_of(segment: int, batches: KnownBatches) -> str:
    """Name a segment by its number and by what is in it: the same again after a restart."""
    told = msgspec.json.encode(sorted(batches))
    return f"{segment:010d}-{sha256(told).hexdigest()[:16]}"


class Lake:
    """As ``Facts``; files that the data folder has from before the lake are read as well."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        shelf: Shelf,
        ledger: Ledger,
        files: DataFiles,
        keep: Keep,
        clock_us: Callable[[], int],
    ) -> None:
        self.is_shared = True
        self._catalog = catalog
        self._shelf = shelf
        self._ledger = ledger
        self._files = files
        self._keep = keep
        self._clock_us = clock_us
        self._counts: dict[tuple[str, str], int] = {}  # tenant, table
        self._kept_up_us = clock_us()

    # --- writing: one thread at a time ----------------------------------------------------------------------

    def seal(self, segment: int, rows: DayTables, batches: KnownBatches) -> Callable[[], None]:
        """As ``Facts``. Raises ``LakeError`` where the lake cannot be reached."""
        doing = f"sealing segment {segment}"
        if any(True for _ in batches):  # else all of it is known: a crash came before the segment was removed
            self._seal(doing, token_of(segment, batches), rows)
            self._ledger.enter(token_of(segment, batches), batches, self._clock_us())
        return self._newest(doing)

    def _seal(self, doing: str, token: str, rows: DayTables) -> None:
        if self._catalog.transact(doing, partial(self._is_new, token)):
            added = [(place[1], self._write(token, place, parts)) for place, parts in rows.items()]
            self._catalog.transact(doing, partial(self._commit, token, added))

    def _is_new(self, token: str, cursor: Cursor) -> bool:
        """Whether a segment is still to be added. Raises ``LakeSetupError`` where someone else is us."""
        found = cursor.execute(f"SELECT token FROM {self._catalog.fence}").fetchall()  # noqa: S608  # our own name
        last = found[0][0] if found else ""
        if last not in {token, self._ledger.token}:
            raise LakeSetupError(
                f"another server seals as {self._ledger.writer}: it was last at {last}, this one at "
                f"{self._ledger.token or 'none'}",
                remedy="if this data folder is a copy, remove its lake.json; it is then a server of its own",
            )
        return last != token

    def _commit(self, token: str, added: list[tuple[str, str]], cursor: Cursor) -> None:
        """Add a segment's files and replace the token, in the transaction that ``cursor`` is in."""
        if not self._is_new(token, cursor):
            return  # a commit went through whose answer was lost
        for table, address in added:
            lake_catalog.add_file(table, address, cursor)
        cursor.execute(f"DELETE FROM {self._catalog.fence}")  # noqa: S608  # our own name
        cursor.execute(f"INSERT INTO {self._catalog.fence} VALUES ($1)", [token])  # noqa: S608  # our own name

    def _write(self, token: str, place: tuple[str, str, str], parts: list[pa.Table]) -> str:
        tenant, table, day = place
        content = pa.concat_tables(parts).sort_by(SORT_ORDER[table])
        name = f"main/{table}/{TENANT}={tenant}/{DAY}={day}/{self._ledger.writer}-{token}{seal.SUFFIX}"
        return self._files.write(name, partial(_write, content, table))

    def look(self) -> None:
        """As ``Facts``. Raises ``LakeError``."""
        show = self._newest("looking for rows of other servers")
        with self._shelf.lock:
            show()

    def upkeep(self) -> None:
        """As ``Facts``, once in a while: let go of old days and files, merge small files."""
        now_us = self._clock_us()
        if now_us - self._kept_up_us < UPKEEP_EVERY_US:
            return
        self._kept_up_us = now_us
        try:
            for statement in (*self._expiring(seal.day_of(now_us)), *lake_catalog.tidying(KEEP)):
                self._catalog.transact("upkeep", partial(_run, statement), pauses_s=())
        except LakeError as error:
            log.info("lake not kept up; another server may be at it: %s", error)

    def _expiring(self, today: str) -> list[str]:
        """Say what lets go of old days, unless the clock may just have jumped ahead."""
        since = tidy.day_before(today, tidy.TRUSTED_DAYS)
        days = self._catalog.transact("upkeep", partial(lake_catalog.days_since, since))
        if not tidy.is_trusted(days, today):
            return []
        return lake_catalog.expiring({table: self._keep.first_day(table, today) for table in FACTS})

    # --- reading: any thread --------------------------------------------------------------------------------

    def shared(self, table: str, tenant: str, days: Days, held: Held) -> Shared | None:
        """As ``Facts``. Raises ``LakeError`` where the lake was not reached since the server's start."""
        if held.lake_version is None:
            raise self._catalog.error(f"asking for {table}", "not reached since this server started")
        return shared_rows(table, tenant, days, held.lake_version)

    def unreadable(self, table: str, tenant: str, error: Exception) -> None:
        """As ``Facts``. Raises ``LakeError``: shared files are nobody's to set aside."""
        raise self._catalog.error(f"asking for {table}", first_line(error)) from error

    def counts(self, tenant: str | None) -> dict[str, int]:
        """As ``Facts``: rows of all servers, as of the last look."""
        found = dict.fromkeys(FACTS, 0)
        for (of, table), rows in self._counts.items():
            found[table] += rows if tenant in (None, of) else 0
        return found

    def _newest(self, doing: str) -> Callable[[], None]:
        """Look at the newest snapshot; what is returned lets questions see it."""
        version = self._catalog.transact(doing, lake_catalog.newest)
        counted = self._catalog.transact(doing, partial(lake_catalog.counts, version))

        def show() -> None:
            self._shelf.lake_version = version
            self._counts = counted

        return show


def _run(statement: str, cursor: Cursor) -> None:
    cursor.execute(statement)


def _write(content: pa.Table, table: str, file: BinaryIO) -> None:
    pq.write_table(content, file, **encodings(STORED[table]))
