"""Making anew what can be made anew: rollups, as far as the readings are kept, and ``state.duckdb``."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from analytics.clock import now_us
from analytics.errors import StoreError
from analytics.store.facts import EMBEDDED, Storage
from analytics.store.query import Limits
from analytics.store.store import Store
from analytics.store.tidy import Keep


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What was made."""

    hours: int
    """Hours of readings rolled up."""
    kept_hours: int
    """Hours whose readings are gone: their rollups are all there is, and stay."""
    rows: dict[str, int]
    """Rows of facts found."""
    files_set_aside: int
    seconds: float


def rebuild(
    folder: Path,
    *,
    limits: Limits,
    keep: Keep,
    storage: Storage = EMBEDDED,
    say: Callable[[str], None] = lambda _: None,
    clock_us: Callable[[], int] = now_us,
) -> Rebuilt:
    """Make rollups and state anew; ``say`` is told how far it is. What waits in the spool is sealed first.

    Raises ``StoreLockedError`` while a server has the folder, ``StoreError`` where something failed.
    """
    began = time.monotonic()
    if not (folder / "parquet").is_dir():
        raise StoreError(
            f"rebuilding {folder}: no data of a server", remedy="name the server's --data folder"
        )
    with closing(Store.open(folder, clock_us=clock_us, limits=limits, keep=keep, storage=storage)) as store:
        store.seal()
        hours, kept = store.rebuild(say)
        health = store.health()
        if health.upkeep_failures:
            raise StoreError(
                f"rebuilding {folder}: {health.upkeep_failures} steps failed", remedy="see above"
            )
        return Rebuilt(
            hours=hours,
            kept_hours=kept,
            rows=store.counts(),
            files_set_aside=health.files_set_aside,
            seconds=round(time.monotonic() - began, 1),
        )
