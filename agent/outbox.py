"""Facts on their way to the server: a bounded queue on disk that survives a kill and a power cut.

Rows are collected in memory, packed into a batch, and written as one file: temporary name, fsync, rename,
fsync of the folder. A file goes only when the server has acknowledged it. (agent, boot, batch) is in the file
for ever, so one that is sent twice is stored once::

    outbox/00001763931234567890-6f1c0a2b9d3e4f50-00000017.batch        made at (us)-boot-batch

    +--------+---------+-----------+----------------------------+
    | "PGOB" | version | CRC-32 of | gzip of the batch          |
    | 4 B    | 1 B     | the rest  | (analytics/batch.py)       |
    +--------+---------+-----------+----------------------------+
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import struct
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from agent import durable
from agent.errors import FolderError, OutboxError
from analytics.batch import pack_batch, row_fault

log: Final = logging.getLogger("pathgrade.agent.outbox")

HEADER: Final = struct.Struct(">4sBI")
MAGIC: Final = b"PGOB"
VERSION: Final = 1

MAX_BYTES: Final = 64 * 1024 * 1024
"""On disk: days of flows of a busy host while the server is away. Then the oldest batches are dropped."""
MAX_ROWS: Final = 20_000
"""Per table and batch, far below the server's ceiling of 4 MiB."""
MAX_WAITING: Final = 100_000
"""Rows in memory while the disk takes none. Then the oldest are dropped."""
MOST_REFUSED: Final = 16
"""Batches the server will never take are kept, so many, for whoever looks into it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A batch on disk that is not acknowledged."""

    path: Path
    body: bytes  # gzip


class Outbox:
    """The queue. Methods but ``add`` block for a disk write; any thread may call them."""

    def __init__(
        self,
        folder: Path,
        agent: str,
        *,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000,
        boot: str | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._folder = folder
        self._agent = agent
        self._clock = clock
        self._max_bytes = max_bytes
        self._disk = threading.Lock()
        self._rows: dict[str, list[msgspec.Struct]] = defaultdict(list)
        self._rows_lock = threading.Lock()
        self._next = 0
        self.boot = boot or secrets.token_hex(8)
        self.dropped_rows = 0
        self.dropped_batches = 0
        self._full = False
        self._sizes = self._open()

    def add(self, table: str, rows: Iterable[msgspec.Struct]) -> None:
        """Take rows in; they are on disk after the next ``flush``. One the server would refuse is dropped."""
        good = self._good(table, rows)
        with self._rows_lock:
            self._rows[table].extend(good)
            if (excess := len(self._rows[table]) - MAX_WAITING) > 0:
                del self._rows[table][:excess]
                self.dropped_rows += excess

    def flush(self) -> bool:
        """Write what was added; True if something was. If the disk is full, it stays in memory for later."""
        with self._disk:
            taken = self._take()
            if not taken:
                return False
            try:
                self._write(taken)
            except OSError as error:
                self._put_back(taken)
                self._say_full(f"{error.strerror}")
                return False
            self._say_full("")
            try:
                self._drop_oldest()
            except OSError as error:
                log.error("oldest batch cannot be dropped folder=%s why=%r", self._folder, error.strerror)
            return True

    def oldest(self) -> Waiting | None:
        """Read the batch that has waited longest; None if there is none. A damaged one is set aside.

        Raises ``OutboxError`` where the disk does not give it now; it is still the oldest then.
        """
        with self._disk, self._disk_errors("read"):
            for name in sorted(self._sizes):
                body = self._read(name)
                if body is not None:
                    return Waiting(self._folder / name, body)
        return None

    def acknowledged(self, batch: Waiting) -> None:
        """Forget a batch that the server has. Not synced: one that comes back is sent again, and known.

        Raises ``OutboxError``; then it is sent again too.
        """
        with self._disk, self._disk_errors("remove a batch from"):
            self._remove(batch.path.name)

    def refused(self, batch: Waiting, why: str) -> None:
        """Set a batch aside that the server will never take. Raises ``OutboxError``; then it still waits."""
        with self._disk, self._disk_errors("set a batch aside in"):
            self._set_aside(batch.path.name, why)

    def __len__(self) -> int:
        """How many batches are not acknowledged."""
        return len(self._sizes)

    # --- rows ----------------------------------------------------------------------------------------------

    def _good(self, table: str, rows: Iterable[msgspec.Struct]) -> list[msgspec.Struct]:
        """Leave out what would have the server refuse a whole batch, and say so once a call."""
        told = [(row, row_fault(table, row, self._agent)) for row in rows]
        if faults := [fault for _, fault in told if fault]:
            with self._rows_lock:
                self.dropped_rows += len(faults)
            log.error("rows dropped rows=%d dropped=%d why=%r", len(faults), self.dropped_rows, faults[0])
        return [row for row, fault in told if not fault]

    def _take(self) -> dict[str, Sequence[msgspec.Struct]]:
        with self._rows_lock:
            taken: dict[str, Sequence[msgspec.Struct]] = {
                table: rows[:MAX_ROWS] for table, rows in self._rows.items() if rows
            }
            for table, rows in taken.items():
                del self._rows[table][: len(rows)]
            return taken

    def _put_back(self, taken: dict[str, Sequence[msgspec.Struct]]) -> None:
        with self._rows_lock:
            for table, rows in taken.items():
                self._rows[table][:0] = rows

    # --- files ---------------------------------------------------------------------------------------------

    def _open(self) -> dict[str, int]:
        """List what an earlier life left; a file that was not finished goes."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for torn in self._folder.glob("*.tmp"):
                torn.unlink()
            return {path.name: path.stat().st_size for path in self._folder.glob("*.batch")}
        except OSError as error:
            raise FolderError(
                f"open the outbox {self._folder}: {error.strerror}",
                remedy="make the agent's data folder writable for its user",
            ) from error

    def _write(self, taken: dict[str, Sequence[msgspec.Struct]]) -> None:
        number = self._next
        self._next += 1  # also if writing fails: a number that was used once may be on disk after all
        name = f"{self._clock():020d}-{self.boot}-{number:08d}.batch"
        data = seal(pack_batch(agent=self._agent, boot=self.boot, batch=number, tables=taken))
        _write_or_none(self._folder / name, data)
        self._sizes[name] = len(data)

    def _read(self, name: str) -> bytes | None:
        """Read a batch; None if it is damaged or gone, and then it waits no longer."""
        try:
            return unseal((self._folder / name).read_bytes())
        except FileNotFoundError:
            self._sizes.pop(name)
            self.dropped_batches += 1
            log.error("batch gone file=%s dropped=%d", name, self.dropped_batches)
        except ValueError as error:
            self._set_aside(name, str(error))
        return None

    @contextlib.contextmanager
    def _disk_errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutboxError(f"{doing} the outbox {self._folder}: {error.strerror}") from error

    def _drop_oldest(self) -> None:
        while sum(self._sizes.values()) > self._max_bytes and len(self._sizes) > 1:
            self._remove(min(self._sizes))
            self.dropped_batches += 1
            log.warning(
                "oldest batch dropped dropped=%d limit_bytes=%d", self.dropped_batches, self._max_bytes
            )

    def _remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)
        self._sizes.pop(name, None)

    def _set_aside(self, name: str, why: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._folder / name).rename(self._folder / f"{name}.refused")
        self._sizes.pop(name, None)
        log.error("batch set aside file=%s.refused why=%r", name, why)
        for old in sorted(self._folder.glob("*.refused"))[:-MOST_REFUSED]:
            old.unlink(missing_ok=True)

    def _say_full(self, why: str) -> None:
        """One line when writing stops, one when it works again."""
        if why and not self._full:
            log.error("outbox cannot be written folder=%s why=%r; rows wait in memory", self._folder, why)
        elif self._full and not why:
            log.info("outbox is written again folder=%s", self._folder)
        self._full = bool(why)


def seal(body: bytes) -> bytes:
    """Compress a batch and put the file's header before it."""
    packed = zlib.compress(body, level=1, wbits=16 + zlib.MAX_WBITS)
    return HEADER.pack(MAGIC, VERSION, zlib.crc32(packed)) + packed


def unseal(data: bytes) -> bytes:
    """Take the header off, leaving gzip; raises ``ValueError`` for what is damaged or of another version."""
    if len(data) < HEADER.size:
        raise ValueError("too short")
    magic, version, checksum = HEADER.unpack_from(data)
    packed = data[HEADER.size :]
    if (magic, version) != (MAGIC, VERSION) or zlib.crc32(packed) != checksum:
        raise ValueError("damaged, or of another version")
    return packed


def _write_or_none(path: Path, data: bytes) -> None:
    """Write; after an ``OSError`` there is no file, as the rows of one that stayed would be written again."""
    try:
        durable.replace(path, data)
    except OSError:
        path.unlink(missing_ok=True)
        raise
