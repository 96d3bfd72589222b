"""The catalog of a lake: transactions, tried again where two servers come between each other."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

import duckdb

from analytics.errors import LakeError, LakeSetupError
from analytics.measurement import FACTS
from analytics.store.lake_engine import LAKE, attach, first_line, quoted
from analytics.store.lake_files import DataFiles
from analytics.store.lake_place import LakePlace
from analytics.store.lake_tables import DAY, METADATA, TENANT, ensure_tables, lacks_tables, set_options

log: Final = logging.getLogger(__name__)

PAUSES_S: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Before another try where two servers wrote at once; DuckLake has then tried ten times itself."""

Cursor = duckdb.DuckDBPyConnection
T = TypeVar("T")


_BETWEEN: Final = ("duplicate key", "could not serialize access", "already exists")
"""How PostgreSQL says that another one was quicker, where DuckLake passes that on as it is: a row that is
there, or a table of the catalog itself, where two servers begin a lake at once."""


class BetweenError(Exception):
    """Another server came between."""


def _is_between(error: duckdb.Error) -> bool:
    return isinstance(error, duckdb.TransactionException) or any(told in str(error) for told in _BETWEEN)


class Catalog:
    """Attached when first needed, and for good: DuckDB connects anew to a PostgreSQL that comes back."""

    def __init__(
        self,
        place: LakePlace,
        database: duckdb.DuckDBPyConnection,
        files: DataFiles,
        writer: str,
        *,
        pause: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.fence: Final = f"{LAKE}.sealed_{writer}"
        """Table of one row: the token of what this server sealed last."""
        self._place = place
        self._database = database
        self._files = files
        self._pause = pause
        self._chance = chance
        self._is_ready = False
        self._attaching = threading.Lock()

    def transact(self, doing: str, work: Callable[[Cursor], T], pauses_s: Sequence[float] = PAUSES_S) -> T:
        """Do it in a transaction; again, a bounded number of times, where another server came between.

        A connection that is lost at the commit looks the same: ``work`` must find out whether it was done.
        Raises ``LakeError``.
        """
        self._make_ready(doing)
        return self._persist(doing, partial(self._try, doing, work), pauses_s)

    def _persist(self, doing: str, attempt: Callable[[], T], pauses_s: Sequence[float] = PAUSES_S) -> T:
        for pause_s in pauses_s:
            try:
                return attempt()
            except BetweenError as error:
                log.info("lake: %s, once more: %s", doing, error)
            self._pause(pause_s * (0.5 + self._chance()))
        try:
            return attempt()
        except BetweenError as error:
            raise self.error(doing, str(error)) from error

    def _try(self, doing: str, work: Callable[[Cursor], T]) -> T:
        try:
            with self._transaction() as cursor:
                return work(cursor)
        except duckdb.Error as error:
            if _is_between(error):
                raise BetweenError(first_line(error)) from error
            raise self.error(doing, first_line(error)) from error

    @contextmanager
    def _transaction(self) -> Iterator[Cursor]:
        with self._database.cursor() as cursor:
            cursor.begin()
            yield cursor
            cursor.commit()  # where an error comes before this, closing the cursor takes it all back

    def _make_ready(self, doing: str) -> None:
        with self._attaching:
            if self._is_ready:
                return
            self._persist(doing, partial(self._attach, doing))
            is_new = self._persist(doing, partial(self._try, doing, lacks_tables))
            if is_new:
                self._files.make_root()
            self._persist(doing, partial(self._try, doing, partial(ensure_tables, self.fence)))
            if is_new:
                self._persist(doing, partial(self._try, doing, set_options))
            self._is_ready = True

    def _attach(self, doing: str) -> None:
        try:
            attach(self._database, self._place)
        except duckdb.Error as error:
            if _is_between(error):
                raise BetweenError(first_line(error)) from error
            if "DATA_PATH" in str(error):
                raise LakeSetupError(
                    f"{self._place}: {first_line(error)}",
                    remedy="give all servers of a lake one lake_data; another lake needs another database",
                ) from error
            raise self.error(doing, first_line(error)) from error

    def error(self, doing: str, why: str) -> LakeError:
        """Say what failed, at which catalog, and what to try."""
        return LakeError(
            f"{doing}, lake {self._place}: {why}",
            remedy=f'check that psql "{self._place.catalog}" connects; the spool keeps what was acknowledged',
        )


# Statements of one transaction each. Names are constants; a version is a number.


def newest(cursor: Cursor) -> int:
    """Find the newest snapshot."""
    asked = f"SELECT id FROM ducklake_current_snapshot({quoted(LAKE)})"  # noqa: S608  # see above
    return int(cursor.execute(asked).fetchall()[0][0])


_COUNTS: Final = f"""
    SELECT coalesce(tenant, ''), table_name, (sum(record_count) - sum(coalesce(gone, 0)))::BIGINT
    FROM {METADATA}_table t JOIN {METADATA}_data_file f USING (table_id)
    LEFT JOIN (
        SELECT v.data_file_id, v.partition_value AS tenant
        FROM {METADATA}_file_partition_value v JOIN {METADATA}_data_file f USING (data_file_id)
        JOIN {METADATA}_partition_column p
            ON p.partition_id = f.partition_id AND p.partition_key_index = v.partition_key_index
        JOIN {METADATA}_column c ON c.column_id = p.column_id AND c.table_id = f.table_id
        WHERE c.column_name = '{TENANT}' AND c.end_snapshot IS NULL) USING (data_file_id)
    LEFT JOIN (
        SELECT data_file_id, sum(delete_count) AS gone FROM {METADATA}_delete_file
        WHERE begin_snapshot <= $1 AND (end_snapshot IS NULL OR end_snapshot > $1) GROUP BY ALL
        ) USING (data_file_id)
    WHERE t.end_snapshot IS NULL
      AND f.begin_snapshot <= $1 AND (f.end_snapshot IS NULL OR f.end_snapshot > $1)
    GROUP BY ALL
"""  # noqa: S608  # see above


def counts(version: int, cursor: Cursor) -> dict[tuple[str, str], int]:
    """Count the rows of each tenant and table in a snapshot, by the catalog; no file is opened.

    Files of a lake that had no partition for a tenant count as of none.
    """
    found = cursor.execute(_COUNTS, [version]).fetchall()
    return {(tenant, table): rows for tenant, table, rows in found if table in FACTS}


def add_file(table: str, address: str, cursor: Cursor) -> None:
    """Add a Parquet file to a table; its day is in its path."""
    names = ", ".join(map(quoted, (LAKE, table, address)))
    options = "hive_partitioning => true, allow_missing => true"
    cursor.execute(f"CALL ducklake_add_data_files({names}, {options})")


def days_since(day: str, cursor: Cursor) -> set[str]:
    """Find the days on which rows came, of any table, from that one on."""
    asked = f"SELECT DISTINCT {DAY} FROM {LAKE}.{{}} WHERE {DAY} >= {quoted(day)}"  # noqa: S608  # as below
    return {found for table in FACTS for (found,) in cursor.execute(asked.format(table)).fetchall()}


def expiring(first_days: Mapping[str, str]) -> list[str]:
    """What lets go of the days before the first one that is kept, a transaction for each table."""
    return [
        f"DELETE FROM {LAKE}.{table} WHERE {DAY} < {quoted(day)}"  # noqa: S608  # a name, and a day
        for table, day in first_days.items()
    ]


def tidying(keep: str) -> list[str]:
    """What keeps a lake small, a transaction each; ``keep`` is an interval that readers may look back."""
    merge = [f"CALL ducklake_merge_adjacent_files({quoted(LAKE)}, {quoted(table)})" for table in FACTS]
    old = f"older_than => now() - INTERVAL {quoted(keep)}"
    return [
        *merge,
        f"CALL ducklake_expire_snapshots({quoted(LAKE)}, {old})",
        f"CALL ducklake_cleanup_old_files({quoted(LAKE)}, {old})",
    ]
