"""What the store holds at this moment: sealed files, and rows not sealed yet. One lock guards all of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Final

import pyarrow as pa

from analytics.errors import StoreError
from analytics.measurement import FACTS
from analytics.store import seal
from analytics.store.columns import SCHEMAS
from analytics.store.files import disk_errors
from analytics.store.recover import Left, put_aside
from analytics.store.seal import Sealed, UnreadableError
from analytics.store.unsealed import Unsealed, share_of

log: Final = logging.getLogger(__name__)

WARM_BYTES_MOST: Final = 512 * 1024 * 1024
"""Of sealed readings that are kept in memory: half a minute of ten times what a thousand agents need."""


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """What happened to the store since it was opened, and how much is not yet sealed."""

    torn_tails: int  # segments whose end was cut: a crash in the middle of a write
    damaged_segments: int  # segments with a fault in the middle, kept aside when sealed
    frames_set_aside: int  # in the spool, whole, and no batch: left in segments kept aside when sealed
    files_set_aside: int  # Parquet files renamed to .bad
    unsealed_rows: int
    unsealed_bytes: int
    hours_rolled: int
    days_compacted: int
    files_expired: int
    state_rebuilt: int  # state.duckdb thrown away and made anew
    upkeep_failures: int  # each is in the log


@dataclass(frozen=True, slots=True)
class Held:
    """One table as it was at a moment."""

    files: tuple[Sealed, ...]
    fresh: pa.Table  # rows not sealed yet
    lake_version: int | None = None  # snapshot of the lake without those; None = no lake, or not seen yet


@dataclass(frozen=True, slots=True)
class Warm:
    """The readings of a file that is sealed and not in the state yet, as they were in memory before."""

    by_share: Mapping[int, Sequence[pa.Table]]
    """By share of the agents (``unsealed.share_of``)."""
    size: int  # bytes

    @classmethod
    def of(cls, unsealed: Unsealed, tenant: str) -> Warm:
        """Take a tenant's readings of a segment."""
        found: dict[int, list[pa.Table]] = {}
        for (of, share, _day), gathered in unsealed.gathered.items():
            if of == tenant and (pieces := gathered.tables("readings")):
                found.setdefault(share, []).append(pa.concat_tables(pieces).combine_chunks())
        return cls(found, sum(table.nbytes for tables in found.values() for table in tables))

    def __add__(self, other: Warm) -> Warm:
        """Join those of two files that became one."""
        shares = [*self.by_share, *other.by_share]
        joined = {share: [*self.by_share.get(share, ()), *other.by_share.get(share, ())] for share in shares}
        return Warm(joined, self.size + other.size)


class Shelf:
    """The one list of what is where.

    Methods may be called from any thread; none may hold ``lock``, but for ``show``.
    """

    def __init__(self, left: Left) -> None:
        self.lock = threading.Lock()
        self.known = left.known
        self.unsealed = left.unsealed
        self.sealed: dict[Path, Sealed] = {}
        self._of: dict[tuple[str, str], dict[Path, Sealed]] = {}  # the same, by tenant and table
        self.show(left.sealed.values())
        self.set_aside = left.files_set_aside
        self.lake_version: int | None = None
        self.batches_taken = 0
        """Since the store was opened: another number, and there is more to tell."""
        self.tainted = False
        """A file that was taken into the state is set aside: what it brought may not be true."""
        self._taken: set[Path] = set()
        self._warm: dict[Path, Warm] = {}

    def held(self, table: str, tenant: str, agents: Collection[str] | None = None) -> Held:
        """Take a tenant's files and rows of a table, each row once; nothing of another's.

        Of rows that are not sealed yet all that some agents sent, if those are named, and few others'.
        """
        with self.lock:
            files = tuple(self._of.get((tenant, table), {}).values())
            waiting = list(self.unsealed.values())
            fresh = [gathered for unsealed in waiting for gathered in unsealed.having(table, tenant, agents)]
            version = self.lake_version
        parts = [part for gathered in fresh for part in gathered.tables(table)]  # not under the lock
        return Held(files, pa.concat_tables(parts) if parts else SCHEMAS[table].empty_table(), version)

    def files(self, table: str | None = None) -> list[Sealed]:
        """List the sealed files of all tenants, of a table or of all."""
        with self.lock:
            return [file for file in self.sealed.values() if table in (None, file.table)]

    def files_of(self, table: str, tenant: str) -> list[Sealed]:
        """List the sealed files of a tenant's table."""
        with self.lock:
            return list(self._of.get((tenant, table), {}).values())

    def show(self, files: Iterable[Sealed]) -> None:
        """Have questions read these files too; ``lock`` is held."""
        for file in files:
            self.sealed[file.path] = file
            self._of.setdefault((file.tenant, file.table), {})[file.path] = file

    def keep_warm(self, segment: int, warm: Mapping[str, Warm]) -> None:
        """Keep the readings of a segment that is sealed until they are in the state; ``lock`` is held.

        Whoever asks for a path reads them here, not in a file. What is too much is let go of.
        """
        for (tenant, table), files in self._of.items():
            if table == "readings" and tenant in warm:
                made = [path for path, file in files.items() if file.segment == segment]
                self._warm |= dict.fromkeys(made, warm[tenant])
        while sum(kept.size for kept in self._warm.values()) > WARM_BYTES_MOST:
            del self._warm[next(iter(self._warm))]

    def not_taken(self, tenant: str, agents: Iterable[str]) -> tuple[list[Sealed], list[pa.Table]]:
        """List files of readings that are not in the state, of those in memory the rows.

        All rows that some agents sent, and few others'.
        """
        with self.lock:
            rest = [
                file
                for file in self._of.get((tenant, "readings"), {}).values()
                if file.path not in self._taken
            ]
            warm = [self._warm[file.path].by_share for file in rest if file.path in self._warm]
            cold = [file for file in rest if file.path not in self._warm]
        shares = {share_of(agent) for agent in agents}
        return cold, [table for known in warm for share in shares for table in known.get(share, ())]

    def _hide(self, path: Path) -> Sealed | None:
        self._warm.pop(path, None)
        file = self.sealed.pop(path, None)
        if file is not None:
            del self._of[file.tenant, file.table][path]
        return file

    def swap(self, gone: Iterable[Sealed], new: Iterable[Sealed] = ()) -> None:
        """Read new files from now on, and no longer those that they replace."""
        old, made = {file.path for file in gone}, {file.path: file for file in new}
        with self.lock:
            if old and old <= self._taken:
                self._taken |= made.keys()
            self._taken -= old
            if len(made) == 1 and old and old <= self._warm.keys():
                self._warm |= dict.fromkeys(made, reduce(add, (self._warm[path] for path in old)))
            self.show(made.values())
            for path in old:
                self._hide(path)

    def taken_now(self) -> frozenset[Path]:
        """Name the files whose rows are in the state already."""
        with self.lock:
            return frozenset(self._taken)

    def take(self, files: Iterable[Sealed]) -> None:
        """Note that the rows of files are in the state, of those that are still there."""
        with self.lock:
            taken = {file.path for file in files if file.path in self.sealed}
            self._taken |= taken
            for path in taken:
                self._warm.pop(path, None)

    def take_none(self) -> None:
        """Note that the state is empty."""
        with self.lock:
            self._taken.clear()
            self.tainted = False

    def counts(self, tenant: str | None) -> dict[str, int]:
        """Rows kept, by table; of all tenants where none is named."""
        found = dict.fromkeys(FACTS, 0)
        with self.lock:
            for (of, table), files in self._of.items():
                found[table] += sum(file.rows for file in files.values()) if tenant in (None, of) else 0
            for unsealed in self.unsealed.values():
                for table, rows in unsealed.counts(tenant):
                    found[table] += rows
        return found

    def set_damaged_aside(self, table: str, tenant: str) -> None:
        """Look through a tenant's files of a table for damage behind a good footer.

        Raises ``StoreError`` where a file cannot be read now; that one keeps its name.
        """
        with self.lock:
            paths = list(self._of.get((tenant, table), {}))
        for path in paths:
            try:
                seal.check_through(path)
            except UnreadableError as error:
                with self.lock, disk_errors("setting aside", path):
                    if self._hide(path) is not None:  # else it was merged away meanwhile
                        put_aside(path, error)
                        self.set_aside += 1
                        self.tainted |= path in self._taken
                        self._taken.discard(path)
            except StoreError:
                with self.lock:
                    if path in self.sealed:  # else it was merged away meanwhile
                        raise
