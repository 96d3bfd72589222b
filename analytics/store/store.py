"""The store of facts: durable before it answers, visible as soon as it has answered.

READ FIRST: ``Store.open``, ``append``, ``seal``, ``upkeep``. Below the data folder::

    store.lock, layout                                              one server at a time; how the rest lies
    spool/<segment>.spool                                           acknowledged, not yet sealed  (spool.py)
    parquet/tenant=<tenant>/<table>/date=<day>/<segment>.parquet    the truth                     (seal.py)
    rollup/tenant=<tenant>/<level>/date=<day>/<hour>.parquet        by 5 min, hour, day           (rolled.py)
    state.duckdb                                                    disposable                    (state.py)
    tmp/                                                            what DuckDB spills

Rows of unsealed segments are in memory as well, in the buffers that came over the wire.
Methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from analytics.batch import Batch
from analytics.clock import HOUR_US, now_us
from analytics.errors import StoreBusyError, StoreError
from analytics.rollup import Level, Rollup
from analytics.screen import Screened
from analytics.store import layout, query, spool
from analytics.store.answers import Answers
from analytics.store.baselines import usual_at
from analytics.store.commit import GroupCommit
from analytics.store.facts import EMBEDDED, Opening, Storage
from analytics.store.files import (
    FolderLock,
    disk_error,
    disk_errors,
    make_folder,
    set_aside,
    sync_folder,
)
from analytics.store.known import BatchKey
from analytics.store.query import Engine, Limits, StoppedError, UnreadableFactsError
from analytics.store.recover import Left, recover
from analytics.store.shelf import Shelf, StoreHealth, Warm
from analytics.store.state import State
from analytics.store.tenants import check_name
from analytics.store.tidy import Keep
from analytics.store.unsealed import Arrived, Unsealed
from analytics.store.upkeep import Upkeep

log: Final = logging.getLogger(__name__)

_LIMITS: Final = Limits()
_KEEP: Final = Keep()
UNSEALED_BYTES_MOST: Final = 512 * 1024 * 1024
"""In memory. Reached only where sealing fails for long; then batches are refused until it works again."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A batch on its way to the disk."""

    key: BatchKey
    packed: spool.Packed
    arrived: Arrived
    done: Future[None] = field(default_factory=Future)

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Its frame."""
        return spool.frame_parts(self.arrived.received_us, self.key.tenant, self.packed)

    @property
    def size(self) -> int:
        return len(self.packed)


class Store(Answers):
    """Facts of all tenants. Made by ``open``."""

    def __init__(
        self,
        folder: Path,
        lock: FolderLock,
        left: Left,
        clock_us: Callable[[], int],
        *,
        limits: Limits,
        keep: Keep,
        storage: Storage,
    ) -> None:
        shelf, engine = Shelf(left), Engine(query.connect(limits, folder / "tmp"))
        opening = Opening(folder=folder, shelf=shelf, engine=engine, keep=keep, clock_us=clock_us)
        # One thread: the state is kept up by one that stands back, and asked for single paths.
        state = State(folder, shelf, replace(limits, threads=1))
        super().__init__(shelf, storage.facts(opening), engine, state, clock_us)
        self._spool = folder / "spool"
        self._parquet = folder / "parquet"
        self._folder_lock = lock
        self._left = left
        self._seal_lock = threading.Lock()  # held while sealing; taken before the other two
        self._segment_lock = threading.Lock()  # guards the segment being written; taken before _lock
        self._segment: spool.Segment | None = None
        self._next_segment = left.next_segment
        self._lock = self._shelf.lock  # guards what is pending, too
        self._pending: dict[BatchKey, Future[None]] = {}
        self._upkeep = Upkeep(
            folder,
            self._shelf,
            self._state,
            keep=keep,
            clock_us=clock_us,
            number=self._number,
        )
        self._writer: GroupCommit[_Pending] = GroupCommit(self._commit)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        clock_us: Callable[[], int] = now_us,
        limits: Limits = _LIMITS,
        keep: Keep = _KEEP,
        storage: Storage = EMBEDDED,
    ) -> Store:
        """Open a data folder, made if it is not there, and take up what an earlier process left.

        ``storage`` is where sealed rows go. Raises ``StoreLockedError``, or ``StoreError`` where the folder
        or the storage cannot be used.
        """
        with disk_errors("opening the data folder", folder):
            make_folder(folder / "spool")
            make_folder(folder / "parquet")
            lock = FolderLock(folder / "store.lock")
        try:
            with disk_errors("bringing the data folder to a folder for each tenant", folder):
                aside = layout.bring(folder)
            with disk_errors("reading the data folder", folder):
                shutil.rmtree(folder / "tmp", ignore_errors=True)  # what a killed process spilled
                left = recover(folder / "spool", folder / "parquet", storage.known(folder))
                left.files_set_aside += aside
            store = cls(folder, lock, left, clock_us, limits=limits, keep=keep, storage=storage)
        except BaseException:
            lock.release()
            raise
        try:
            storage.started(store.seal)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Write what is queued, and give the folder back."""
        self._writer.close()
        with self._segment_lock:
            self._end_segment()
        self._upkeep.close()
        self._engine.close()
        self._folder_lock.release()

    async def append(self, batch: Batch, body: bytes | spool.Packed, tenant: str) -> bool:
        """Keep a checked batch; returns once it is on the disk. False: it was kept before.

        ``body`` is the batch as it came, better made ready by ``spool.pack_body`` in a thread that has the
        time; ``tenant`` is that of the sender's credential. Raises
        ``StoreFullError``, ``StoreBusyError`` or ``StoreError``; then nothing is promised and the sender
        keeps its copy.
        """
        check_name(tenant)
        key = BatchKey(tenant, batch.agent, batch.boot, batch.batch)
        received_us = self._clock_us()
        packed = body if isinstance(body, spool.Packed) else spool.pack_body(body)
        with self._lock:
            if key in self._shelf.known:
                return False
            first = self._pending.get(key)
            if first is None:
                done = self._submit(key, batch, packed, received_us)
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
                    waiting = sorted(self._shelf.unsealed.items())
            with disk_errors("sealing to", self._parquet):
                for number, unsealed in waiting:
                    self._seal_one(number, unsealed)
                self._upkeep.merge_small()
            self._facts.look()

    def upkeep(self) -> None:
        """Roll up, compact and let go of what is due; blocks, maybe for minutes. What fails is logged."""
        self._upkeep.run()
        self._facts.upkeep()

    def usual_at(self, tenant: str, at_us: int) -> list[Screened]:
        """What was usual on each path at the beginning of an hour of the past; empty where it is not kept."""
        with suppress(UnreadableFactsError, StoppedError):
            return usual_at(self._engine, self._upkeep.rollups.of(tenant), tenant, at_us // HOUR_US)
        return []

    def rollups_of_pair(
        self, tenant: str, src: str, dst: str, level: Level, *, since_us: int, until_us: int
    ) -> list[Rollup]:
        """Both directions' rollups of that time, by time; the hour that runs is in none yet."""
        given = {"tenant": tenant, "src": src, "dst": dst, "since_us": since_us, "until_us": until_us}
        ask = partial(self._upkeep.rollups.of(tenant).of_pair, self._engine, level, given)
        try:
            with suppress(UnreadableFactsError):  # let go of, or made again, meanwhile
                return ask()
            return ask()
        except UnreadableFactsError as error:
            raise StoreError(f"asking for {level}: {error}", remedy="pathgrade server rebuild") from error

    def rebuild(self, say: Callable[[str], None]) -> tuple[int, int]:
        """Make rollups and ``state.duckdb`` anew; returns hours made, and hours whose readings are gone."""
        return self._upkeep.rebuild(say)

    def _submit(self, key: BatchKey, batch: Batch, packed: spool.Packed, received_us: int) -> Future[None]:
        """Queue a new batch for the writer; ``_lock`` is held."""
        if sum(unsealed.size for unsealed in self._shelf.unsealed.values()) > UNSEALED_BYTES_MOST:
            raise StoreBusyError(
                f"{sum(unsealed.rows for unsealed in self._shelf.unsealed.values())} rows wait to be sealed",
                remedy="see the server's log for why sealing fails",
            )
        pending = _Pending(
            key=key,
            packed=packed,
            arrived=Arrived(batch, key.tenant, received_us),
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
                segment.append([part for pending in group for part in pending.parts])
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
            unsealed = self._shelf.unsealed.setdefault(number, Unsealed())
            self._shelf.batches_taken += len(group)
            for pending in group:
                unsealed.add(pending.arrived, len(pending.packed), pending.key)
                self._shelf.known.add(pending.key)

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
        with self._upkeep.sealing(unsealed.hours):
            show = self._facts.seal(number, unsealed.tables(), unsealed.batches)
            warm = {tenant: Warm.of(unsealed, tenant) for tenant in unsealed.hours}  # not under the lock
            with self._lock:
                show()
                del self._shelf.unsealed[number]
                self._shelf.keep_warm(number, warm)
        path = spool.segment_path(self._spool, number)
        if unsealed.damaged:
            log.warning("spool segment %s: not all of it was read; kept as %s", path, set_aside(path).name)
            return
        path.unlink(missing_ok=True)
        sync_folder(self._spool)

    def health(self) -> StoreHealth:
        """What happened since the store was opened."""
        with self._lock:
            return StoreHealth(
                torn_tails=self._left.torn_tails,
                damaged_segments=self._left.damaged_segments,
                frames_set_aside=self._left.frames_set_aside,
                files_set_aside=self._shelf.set_aside,
                unsealed_rows=sum(unsealed.rows for unsealed in self._shelf.unsealed.values()),
                unsealed_bytes=sum(unsealed.size for unsealed in self._shelf.unsealed.values()),
                hours_rolled=self._upkeep.done.hours_rolled,
                days_compacted=self._upkeep.done.days_compacted,
                state_rebuilt=self._state.rebuilt,
                files_expired=self._upkeep.done.files_expired,
                upkeep_failures=self._upkeep.done.failures,
            )
