"""The store of facts: durable before it answers, visible as soon as it has answered.

READ FIRST: ``Store.open``, ``append``, ``seal``. Below the data folder::

    store.lock                                        one server at a time
    spool/<segment>.spool                             acknowledged, not yet sealed      (spool.py)
    parquet/<table>/date=<day>/<segment>.parquet      the truth                         (seal.py)

Rows of unsealed segments are in memory as well, as Arrow tables over the buffers that came over the wire.
Methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import pyarrow as pa

from analytics.batch import Batch
from analytics.errors import StoreBusyError, StoreError
from analytics.measurement import FACTS, Flow, Hop, Reading
from analytics.store import query, seal, spool
from analytics.store.columns import SCHEMAS, tables_of
from analytics.store.commit import GroupCommit
from analytics.store.files import FolderLock, disk_error, disk_errors, make_folder, set_aside, sync_folder
from analytics.store.known import BatchKey
from analytics.store.query import Engine, UnreadableFactsError
from analytics.store.recover import Left, put_aside, recover
from analytics.store.seal import Sealed, UnreadableError
from analytics.store.unsealed import Unsealed
from analytics.usage import By, Usage
from analytics.usual import Past, UsualHop

log: Final = logging.getLogger(__name__)

UNSEALED_BYTES_MOST: Final = 512 * 1024 * 1024
"""In memory. Reached only where sealing fails for long; then batches are refused until it works again."""
LOOK_BACK_DAYS: Final = 7
"""A path's latest reading is looked for in this many days: an older one says nothing about now."""
_DAY_US: Final = 86_400_000_000
_EVER: Final = ("0000-00-00", "9999-99-99")

Row = TypeVar("Row", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """What happened to the store since it was opened, and how much is not yet sealed."""

    torn_tails: int  # segments whose end was cut: a crash in the middle of a write
    damaged_segments: int  # segments with a fault in the middle, kept aside when sealed
    files_set_aside: int  # Parquet files renamed to .bad
    unsealed_rows: int
    unsealed_bytes: int


@dataclass(frozen=True, slots=True)
class _Pending:
    """A batch on its way to the disk."""

    key: BatchKey
    frame: bytes
    tables: dict[str, pa.Table]
    day: str
    done: Future[None] = field(default_factory=Future)

    @property
    def size(self) -> int:
        return len(self.frame)


class Store:
    """Facts of all tenants. Made by ``open``."""

    def __init__(self, folder: Path, lock: FolderLock, left: Left, clock_us: Callable[[], int]) -> None:
        self._spool = folder / "spool"
        self._parquet = folder / "parquet"
        self._folder_lock = lock
        self._clock_us = clock_us
        self._engine = Engine()
        self._left = left
        self._seal_lock = threading.Lock()  # held while sealing; taken before the other two
        self._segment_lock = threading.Lock()  # guards the segment being written; taken before _lock
        self._segment: spool.Segment | None = None
        self._next_segment = left.next_segment
        self._lock = threading.Lock()  # guards what follows
        self._known = left.known
        self._unsealed = left.unsealed
        self._sealed = left.sealed
        self._pending: dict[BatchKey, Future[None]] = {}
        self._set_aside = left.files_set_aside
        self._writer: GroupCommit[_Pending] = GroupCommit(self._commit)

    @classmethod
    def open(cls, folder: Path, *, clock_us: Callable[[], int] | None = None) -> Store:
        """Open a data folder, made if it is not there, and take up what an earlier process left.

        Raises ``StoreLockedError``, or ``StoreError`` where the folder cannot be used.
        """
        with disk_errors("opening the data folder", folder):
            make_folder(folder / "spool")
            make_folder(folder / "parquet")
            lock = FolderLock(folder / "store.lock")
        try:
            with disk_errors("reading the data folder", folder):
                left = recover(folder / "spool", folder / "parquet")
            return cls(folder, lock, left, clock_us or (lambda: time.time_ns() // 1_000))
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Write what is queued, and give the folder back."""
        self._writer.close()
        with self._segment_lock:
            self._end_segment()
        self._engine.close()
        self._folder_lock.release()

    # --- writing --------------------------------------------------------------------------------------------

    async def append(self, batch: Batch, body: bytes, tenant: str) -> bool:
        """Keep a checked batch; returns once it is on the disk. False: it was kept before.

        ``body`` is the batch as packed, ``tenant`` that of the sender's credential. Raises
        ``StoreFullError``, ``StoreBusyError`` or ``StoreError``; then nothing is promised and the sender
        keeps its copy.
        """
        key = BatchKey(tenant, batch.agent, batch.boot, batch.batch)
        received_us = self._clock_us()
        with self._lock:
            if key in self._known:
                return False
            first = self._pending.get(key)
            if first is None:
                done = self._submit(key, batch, body, received_us)
        # Shielded: a sender that hangs up must not undo what the writer thread is doing for it.
        await asyncio.shield(asyncio.wrap_future(first or done))
        return first is None

    def seal(self) -> None:
        """Turn what is spooled into Parquet; blocks, so call it in a thread.

        Raises ``StoreFullError`` or ``StoreError``; then the spool stays, and sealing can be tried again.
        """
        with self._seal_lock:
            with self._segment_lock:  # for the list too: the writer must not put its next segment on it
                self._end_segment()
                with self._lock:
                    waiting = sorted(self._unsealed.items())
            with disk_errors("sealing to", self._parquet):
                for number, unsealed in waiting:
                    self._seal_one(number, unsealed)
                self._merge_small_files()

    def _submit(self, key: BatchKey, batch: Batch, body: bytes, received_us: int) -> Future[None]:
        """Queue a new batch for the writer; ``_lock`` is held."""
        if sum(unsealed.size for unsealed in self._unsealed.values()) > UNSEALED_BYTES_MOST:
            raise StoreBusyError(
                f"{sum(unsealed.rows for unsealed in self._unsealed.values())} rows wait to be sealed",
                remedy="see the server's log for why sealing fails",
            )
        pending = _Pending(
            key=key,
            frame=spool.encode_frame(spool.Frame(received_us, key.tenant, body)),
            tables=tables_of(batch, tenant=key.tenant, received_us=received_us),
            day=seal.day_of(received_us),
        )
        self._writer.submit(pending)
        self._pending[key] = pending.done
        return pending.done

    def _commit(self, group: list[_Pending]) -> None:
        """Make a group durable, then visible, then tell its senders. Runs in the writer thread."""
        failed: StoreError | None = StoreError("the spool's writer failed; see the server's log")
        try:
            with self._segment_lock:
                segment = self._writable_segment()
                segment.append([pending.frame for pending in group])
                self._take_up(segment.number, group)
            failed = None
        except OSError as error:
            failed = disk_error(error, "spooling to", self._spool)
            log.error("spool failed: %s", failed)
        except Exception:  # the one writer must outlive a mistake of ours, and its senders must hear of it
            log.exception("spool failed")
        finally:
            self._answer_senders(group, failed)

    def _answer_senders(self, group: list[_Pending], failed: StoreError | None) -> None:
        with self._lock:
            for pending in group:
                self._pending.pop(pending.key, None)
        for pending in group:
            if failed is None:
                pending.done.set_result(None)
            else:
                pending.done.set_exception(failed)

    def _take_up(self, number: int, group: list[_Pending]) -> None:
        with self._lock:
            unsealed = self._unsealed.setdefault(number, Unsealed())
            for pending in group:
                unsealed.add(pending.tables, pending.day, pending.key)
                self._known.add(pending.key)

    def _writable_segment(self) -> spool.Segment:
        if self._segment is not None and self._segment.broken:
            self._end_segment()
        if self._segment is None:
            self._segment = spool.Segment(self._spool, self._next_segment)
            self._next_segment += 1
        return self._segment

    def _number(self) -> int:
        with self._segment_lock:
            self._next_segment += 1
            return self._next_segment - 1

    def _end_segment(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _seal_one(self, number: int, unsealed: Unsealed) -> None:
        """Write a segment's files; swap them for its rows in memory; only then remove the segment."""
        sealed = seal.seal_segment(self._parquet, number, unsealed.tables, unsealed.batches)
        with self._lock:
            self._sealed.update({file.path: file for file in sealed})
            del self._unsealed[number]
        path = spool.segment_path(self._spool, number)
        if unsealed.damaged:
            log.warning("spool segment %s was damaged; kept as %s", path, set_aside(path).name)
            return
        path.unlink(missing_ok=True)
        sync_folder(self._spool)

    def _merge_small_files(self) -> None:
        """Keep the number of files of a day small: every question opens each of them."""
        with self._lock:
            due = seal.to_merge(self._sealed.values())
        for small in due:
            try:
                merged = seal.merge(self._parquet, self._number(), small)
            except UnreadableError as error:
                log.warning("not merged: %s", error)
                self._set_damaged_aside(small[0].table)
                continue
            with self._lock:
                self._sealed[merged.path] = merged
                for file in small:
                    del self._sealed[file.path]
            for file in small:
                file.path.unlink()
            sync_folder(merged.path.parent)

    # --- reading --------------------------------------------------------------------------------------------

    def readings_latest(self, tenant: str, at_us: int | None = None) -> list[Reading]:
        """Latest reading of every directed path that had arrived by ``at_us`` (now if None), by src, dst."""
        at_us = self._clock_us() if at_us is None else at_us
        given = {"tenant": tenant, "at_us": at_us}
        return self._ask(Reading, query.READINGS_LATEST, given, _look_back(at_us), table="readings")

    def past(self, tenant: str, *, since_us: int, at_us: int | None = None) -> list[Past]:
        """Readings with a round trip, of cycles since then, by path and time."""
        at_us = self._clock_us() if at_us is None else at_us
        given = {"tenant": tenant, "since_us": since_us, "at_us": at_us}
        days = (seal.day_of(since_us), seal.day_of(at_us))
        return self._ask(Past, query.PAST, given, days, table="readings")

    def usual_hops(
        self, tenant: str, paths: Collection[tuple[str, str]], *, since_us: int, until_us: int
    ) -> list[UsualHop]:
        """Median least round trip of each hop that the paths' sources traced in cycles of that time."""
        if not paths:
            return []
        named = [f"{src} {dst}" for src, dst in paths]  # no name has a space
        given = {"tenant": tenant, "since_us": since_us, "until_us": until_us, "paths": named}
        days = (seal.day_of(since_us), seal.day_of(until_us))
        return self._ask(UsualHop, query.USUAL_HOPS, given, days, table="hops")

    def readings_before(
        self, tenant: str, paths: Collection[tuple[str, str]], *, since_us: int, until_us: int, most: int
    ) -> list[Reading]:
        """The last ``most`` readings of each path in cycles of that time, by path and time."""
        if not paths:
            return []
        named = [f"{src} {dst}" for src, dst in paths]  # no name has a space
        given = {"tenant": tenant, "since_us": since_us, "until_us": until_us, "paths": named, "most": most}
        days = (seal.day_of(since_us), seal.day_of(until_us))
        return self._ask(Reading, query.READINGS_BEFORE, given, days, table="readings")

    def hops_of(self, tenant: str, tests: list[str], at_us: int | None = None) -> list[Hop]:
        """Hops that both ends of the named tests saw, by test, src, ttl.

        ``at_us`` (now if None) is the moment of the readings that named the tests: nothing is looked for
        in days that those were not taken from.
        """
        at_us = self._clock_us() if at_us is None else at_us
        given = {"tenant": tenant, "tests": tests}
        return self._ask(Hop, query.HOPS_OF, given, _look_back(at_us), table="hops") if tests else []

    def flows(
        self,
        tenant: str,
        *,
        since_us: int = 0,
        agent: str | None = None,
        process: str | None = None,
        remote: str | None = None,
        but: str | None = None,
        limit: int = 200,
    ) -> list[Flow]:
        """Passive flows whose window began at ``since_us`` or later, newest first; filters match exactly.

        ``but`` names a process that is left out.
        """
        given = {"tenant": tenant, "since_us": since_us, "agent": agent}
        days = (seal.day_of(max(0, since_us - _DAY_US)), _EVER[1])  # a day for clocks that are ahead
        given |= {"process": process, "remote": remote, "but": but, "limit": limit}
        return self._ask(Flow, query.FLOWS, given, days, table="flows")

    def usage(
        self,
        tenant: str,
        by: By,
        *,
        since_us: int,
        until_us: int,
        agent: str | None = None,
        but: str | None = None,
        limit: int = 1_000,
    ) -> list[Usage]:
        """Sums of the flows whose window began in that time, by hour; of the ``limit`` groups used most."""
        given = {"tenant": tenant, "since_us": since_us, "until_us": until_us}
        days = (seal.day_of(max(0, since_us - _DAY_US)), _EVER[1])  # a day for clocks that are ahead
        given |= {"agent": agent, "but": but, "limit": limit}
        return self._ask(Usage, query.usage_question(by), given, days, table="flows")

    def held(self, table: str) -> tuple[list[Sealed], pa.Table]:
        """A table's sealed files and the rows not sealed yet, each row once."""
        with self._lock:
            files = [file for file in self._sealed.values() if file.table == table]
            parts = [part for unsealed in self._unsealed.values() for part in unsealed.parts(table)]
        return files, pa.concat_tables(parts) if parts else SCHEMAS[table].empty_table()

    def counts(self) -> dict[str, int]:
        """Rows kept, by table, of all tenants."""
        with self._lock:
            files, waiting = list(self._sealed.values()), list(self._unsealed.values())
            return {
                table: sum(file.rows for file in files if file.table == table)
                + sum(part.num_rows for unsealed in waiting for part in unsealed.parts(table))
                for table in FACTS
            }

    def health(self) -> StoreHealth:
        """What happened since the store was opened."""
        with self._lock:
            return StoreHealth(
                torn_tails=self._left.torn_tails,
                damaged_segments=self._left.damaged_segments,
                files_set_aside=self._set_aside,
                unsealed_rows=sum(unsealed.rows for unsealed in self._unsealed.values()),
                unsealed_bytes=sum(unsealed.size for unsealed in self._unsealed.values()),
            )

    def _ask(
        self, row: type[Row], question: str, given: dict[str, Any], days: tuple[str, str], *, table: str
    ) -> list[Row]:
        """Ask again where a file was merged away meanwhile; where one is damaged, set it aside first."""
        rows: list[dict[str, Any]] | None = None
        with suppress(UnreadableFactsError):
            rows = self._answer(table, question, given, days)
        if rows is None:
            try:
                rows = self._answer(table, question, given, days)
            except UnreadableFactsError:
                self._set_damaged_aside(table)
                rows = self._answer_at_last(table, question, given, days)
        return msgspec.convert(rows, list[row])  # type: ignore[valid-type]  # a type made at run time

    def _answer(
        self, table: str, question: str, given: dict[str, Any], days: tuple[str, str]
    ) -> list[dict[str, Any]]:
        files, fresh = self.held(table)
        chosen = [file.path for file in files if days[0] <= file.day <= days[1]]
        return self._engine.ask(table, question, files=chosen, fresh=fresh, given=given)

    def _answer_at_last(
        self, table: str, question: str, given: dict[str, Any], days: tuple[str, str]
    ) -> list[dict[str, Any]]:
        try:
            return self._answer(table, question, given, days)
        except UnreadableFactsError as error:
            raise StoreError(
                f"asking {self._parquet} for {table}: {error}", remedy="see the server's log for the file"
            ) from error

    def _set_damaged_aside(self, table: str) -> None:
        """Look through a table's files for damage behind a good footer.

        Raises ``StoreError`` where a file cannot be read now; that one keeps its name.
        """
        with self._lock:
            paths = [path for path, file in self._sealed.items() if file.table == table]
        for path in paths:
            try:
                seal.read_through(path)
            except UnreadableError as error:
                with self._lock, disk_errors("setting aside", path):
                    if self._sealed.pop(path, None) is not None:  # else it was merged away meanwhile
                        put_aside(path, error)
                        self._set_aside += 1
            except StoreError:
                with self._lock:
                    if path in self._sealed:  # else it was merged away meanwhile
                        raise


def _look_back(at_us: int) -> tuple[str, str]:
    """Name the first and the last day in which something about ``at_us`` is looked for."""
    return seal.day_of(max(0, at_us - LOOK_BACK_DAYS * _DAY_US)), seal.day_of(at_us)
