"""Where sealed rows are kept: the seam between the store and its two kinds of storage.

The folder (``Folder``, here) is the default: Parquet files of this server alone, listed on the shelf. The
lake (``lake.py``) is shared by several servers. The store spools and answers in the same way over either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from analytics.store import seal
from analytics.store.known import KnownBatches
from analytics.store.query import Engine, Shared
from analytics.store.seal import DayTables
from analytics.store.shelf import Held, Shelf
from analytics.store.tidy import Keep

Days = tuple[str, str]
"""First and last day, as ``YYYY-MM-DD``."""


class Facts(Protocol):
    """Sealed rows. Written by one thread at a time, read by any."""

    @property
    def is_shared(self) -> bool:
        """Whether rows are elsewhere than on the shelf: what is kept ready of its files is not all then."""

    def seal(self, segment: int, rows: DayTables, batches: KnownBatches) -> Callable[[], None]:
        """Make a segment's rows durable, once, however often that is repeated.

        What it returns makes questions see them; it is called with the shelf's lock held, as the rows in
        memory are dropped. Raises ``OSError`` or ``StoreError``; then it can be tried again.
        """

    def look(self) -> None:
        """See what others have sealed. Raises ``StoreError``."""

    def upkeep(self) -> None:
        """Do what is due beside the folder's own upkeep. Raises ``StoreError``."""

    def shared(self, table: str, tenant: str, days: Days, held: Held) -> Shared | None:
        """Say what a question reads of a tenant's table besides the folder's files. Raises ``StoreError``."""

    def counts(self, tenant: str | None) -> dict[str, int]:
        """Count those rows, by table; of all tenants where none is named."""

    def unreadable(self, table: str, tenant: str, error: Exception) -> None:
        """Put right, as far as that can be, what kept a question from reading. Raises ``StoreError``."""


class Folder:
    """As ``Facts``, in the data folder: all that is sealed is on the shelf."""

    def __init__(self, parquet: Path, shelf: Shelf) -> None:
        self._parquet = parquet
        self._shelf = shelf
        self.is_shared = False

    def seal(self, segment: int, rows: DayTables, batches: KnownBatches) -> Callable[[], None]:
        """As ``Facts``."""
        sealed = seal.seal_segment(self._parquet, segment, rows, batches)
        return lambda: self._shelf.show(sealed)

    def look(self) -> None:
        """As ``Facts``: there are no others."""

    def upkeep(self) -> None:
        """As ``Facts``: there is nothing besides."""

    def shared(self, table: str, tenant: str, days: Days, held: Held) -> Shared | None:
        """As ``Facts``."""
        return None

    def counts(self, tenant: str | None) -> dict[str, int]:
        """As ``Facts``."""
        return {}

    def unreadable(self, table: str, tenant: str, error: Exception) -> None:
        """As ``Facts``: what is damaged is set aside."""
        self._shelf.set_damaged_aside(table, tenant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a store that is being opened hands to its storage."""

    folder: Path
    shelf: Shelf
    engine: Engine
    keep: Keep
    clock_us: Callable[[], int]


class Storage(Protocol):
    """Which kind of storage a store is opened over."""

    def known(self, folder: Path) -> KnownBatches:
        """Name the sealed batches that no Parquet file in the data folder tells of. Raises ``StoreError``."""

    def facts(self, opening: Opening) -> Facts:
        """Build it. Raises ``StoreError``."""

    def started(self, seal: Callable[[], None]) -> None:
        """Do what must be done once the store is whole. Raises ``StoreError``."""


class Embedded:
    """The folder."""

    def known(self, folder: Path) -> KnownBatches:
        """As ``Storage``: footers tell all."""
        return KnownBatches()

    def facts(self, opening: Opening) -> Facts:
        """As ``Storage``."""
        return Folder(opening.folder / "parquet", opening.shelf)

    def started(self, seal: Callable[[], None]) -> None:
        """As ``Storage``: there is nothing to do."""


EMBEDDED: Final = Embedded()
