"""Where sealed rows are kept: the seam between the store and its two kinds of storage.

The folder (``Folder``, here) is the default: Parquet files of this server alone. The lake (``lake.py``) is
shared by several servers. The store spools and answers in the same way over either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from analytics.store import seal
from analytics.store.files import remove_durably
from analytics.store.known import KnownBatches
from analytics.store.query import Engine, Source, files_source
from analytics.store.seal import DayTables, UnreadableError
from analytics.store.shelf import Held, Shelf

log: Final = logging.getLogger(__name__)

Days = tuple[str, str]
"""First and last day, as ``YYYY-MM-DD``."""


class Facts(Protocol):
    """Sealed rows. Writing is called by one thread at a time, reading by any."""

    def seal(self, segment: int, rows: DayTables, batches: KnownBatches) -> Callable[[], None]:
        """Make a segment's rows durable, once, however often that is repeated.

        What it returns makes questions see them; it is called with the shelf's lock held, as the rows in
        memory are dropped. Raises ``OSError`` or ``StoreError``; then it can be tried again.
        """

    def source(self, table: str, days: Days, held: Held) -> Source | None:
        """Say what a question about these days reads of a table; None where nothing is sealed."""

    def unreadable(self, table: str, error: Exception) -> None:
        """Put right, as far as that can be, what kept a question from reading. Raises ``StoreError``."""

    def counts(self) -> dict[str, int]:
        """Rows by table that the shelf does not count by itself."""

    def tidy(self) -> None:
        """Keep the number of files small: every question opens each of them. Raises as ``seal``."""


class Folder:
    """Parquet files below the data folder, listed on the shelf."""

    def __init__(self, parquet: Path, shelf: Shelf, number: Callable[[], int]) -> None:
        self._parquet = parquet
        self._shelf = shelf
        self._number = number

    def seal(self, segment: int, rows: DayTables, batches: KnownBatches) -> Callable[[], None]:
        """As ``Facts``."""
        sealed = seal.seal_segment(self._parquet, segment, rows, batches)
        return lambda: self._shelf.sealed.update({file.path: file for file in sealed})

    def source(self, table: str, days: Days, held: Held) -> Source | None:
        """As ``Facts``."""
        return files_source([file.path for file in held.files if days[0] <= file.day <= days[1]])

    def unreadable(self, table: str, error: Exception) -> None:
        """As ``Facts``: a damaged file is set aside."""
        self._shelf.set_damaged_aside(table)

    def counts(self) -> dict[str, int]:
        """As ``Facts``: the shelf counts its files."""
        return {}

    def tidy(self) -> None:
        """As ``Facts``: merge the small files of a day."""
        for small in seal.to_merge(self._shelf.files()):
            try:
                merged = seal.merge(self._parquet, self._number(), small)
            except UnreadableError as error:
                log.warning("not merged: %s", error)
                self._shelf.set_damaged_aside(small[0].table)
                continue
            self._shelf.swap(small, [merged])
            remove_durably(file.path for file in small)


class Storage(Protocol):
    """Where a store that is being opened keeps its sealed rows."""

    def known(self, folder: Path) -> KnownBatches:
        """Name the sealed batches that no Parquet file in the data folder tells of. Raises ``StoreError``."""

    def facts(
        self,
        folder: Path,
        shelf: Shelf,
        engine: Engine,
        *,
        number: Callable[[], int],
        clock_us: Callable[[], int],
    ) -> Facts:
        """Build the storage; ``number`` gives a file of the folder its name. Raises ``StoreError``."""

    def started(self, seal: Callable[[], None]) -> None:
        """Do what must be done once the store is whole. Raises ``StoreError``."""


class Embedded:
    """The folder."""

    def known(self, folder: Path) -> KnownBatches:
        """As ``Storage``: footers tell all."""
        return KnownBatches()

    def facts(
        self,
        folder: Path,
        shelf: Shelf,
        engine: Engine,
        *,
        number: Callable[[], int],
        clock_us: Callable[[], int],
    ) -> Facts:
        """As ``Storage``."""
        return Folder(folder / "parquet", shelf, number)

    def started(self, seal: Callable[[], None]) -> None:
        """As ``Storage``: there is nothing to do."""


EMBEDDED: Final = Embedded()
