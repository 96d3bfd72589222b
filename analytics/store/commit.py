"""Group commit: many senders wait for one fsync.

Rows arrive from a thousand agents at once, and a disk can be waited for only some hundred times a second. One
writer thread takes what has gathered within ``LINGER_S``, writes it, syncs once, and tells all of them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from analytics.errors import StoreBusyError, StoreError

LINGER_S: Final = 0.02
"""Short against an agent's upload interval (1-2 s), long against an fsync (1-10 ms)."""
GROUP_MOST: Final = 300
QUEUE_MOST: Final = 1_000
QUEUE_BYTES_MOST: Final = 128 * 1024 * 1024


class Sized(Protocol):
    """Something to write."""

    @property
    def size(self) -> int:
        """Bytes it will take on disk."""


T = TypeVar("T", bound=Sized)


class GroupCommit(Generic[T]):
    """A bounded queue and the one thread that empties it."""

    def __init__(self, commit: Callable[[list[T]], None], *, linger_s: float = LINGER_S) -> None:
        """Start the writer. ``commit`` makes a group durable, tells its owners, and never raises."""
        self._commit = commit
        self._linger_s = linger_s
        self._queue: queue.Queue[T | None] = queue.Queue(QUEUE_MOST)
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._thread.start()

    def submit(self, item: T) -> None:
        """Queue an item. Raises ``StoreBusyError`` where too much waits, ``StoreError`` when closed."""
        with self._lock:
            if self._closed:
                raise StoreError("the store is closed", remedy="send it again when the server is back")
            if self._waiting_bytes + item.size > QUEUE_BYTES_MOST and self._waiting_bytes:
                raise _busy()
            try:
                self._queue.put_nowait(item)
            except queue.Full:
                raise _busy() from None
            self._waiting_bytes += item.size

    def close(self) -> None:
        """Write what is queued, then end the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while group := self._gather():
            self._commit(group)
            with self._lock:
                self._waiting_bytes -= sum(item.size for item in group)

    def _gather(self) -> list[T]:
        """Wait for one item, then take what else comes while lingering; empty when closed."""
        group: list[T] = []
        item = self._queue.get()
        until = time.monotonic() + self._linger_s
        while item is not None:
            group.append(item)
            if len(group) == GROUP_MOST:
                return group
            try:
                item = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return group
        if group:
            self._queue.put(None)  # the end comes again, after this group
        return group


def _busy() -> StoreBusyError:
    return StoreBusyError("too many batches wait to be written", remedy="send it again in some seconds")
