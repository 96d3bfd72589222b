"""Upkeep of files: one sorted file a tenant and day that is over, and none that is older than it is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from analytics.measurement import FACTS, OWNER
from analytics.rollup import Level
from analytics.store import seal
from analytics.store.columns import SCHEMAS, SORT_ORDER, STORED
from analytics.store.files import BAD, remove_durably, sync_folder
from analytics.store.known import KnownBatches
from analytics.store.ordered import spans, write_pieces
from analytics.store.query import Engine
from analytics.store.seal import Sealed, UnreadableError
from analytics.store.shelf import Shelf
from analytics.store.tenants import PREFIX

log: Final = logging.getLogger(__name__)

TRUSTED_DAYS: Final = 2
"""Rows must have come on so many days in a row, by the clock, before anything is let go of by it."""
_DAY_S: Final = 86_400

# Only names of columns, which are constants, are put into the text; values are parameters.
_OWNERS: Final = "SELECT tenant, {0} AS owner, count(*) AS n FROM facts GROUP BY ALL ORDER BY ALL"
_ROWS: Final = (
    "SELECT {names} FROM facts WHERE tenant = $tenant AND {owner} BETWEEN $first AND $last ORDER BY {order}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """For how many days of receipt each table is kept. The newest day of a table is always kept.

    Readings and hops are asked for up to 7 days back for what is shown now, so keep more than that.
    """

    readings: int = 30
    hops: int = 14
    flows: int = 30
    receipts: int = 30
    readings_5m: int = 90
    readings_1h: int = 400
    readings_1d: int = 1_830

    def first_day(self, table: str, today: str) -> str:
        """Name the first day that is kept of a table."""
        return day_before(today, getattr(self, table))


def merge_small(folder: Path, shelf: Shelf, number: Callable[[], int]) -> None:
    """Keep the number of files of a day small: every question opens each of them. Raises ``OSError``."""
    for small in seal.to_merge(shelf.files()):
        try:
            merged = seal.merge(folder, number(), small)
        except UnreadableError as error:
            log.warning("not merged: %s", error)
            shelf.set_damaged_aside(small[0].table, small[0].tenant)
            continue
        shelf.swap(small, [merged])
        remove_durably(file.path for file in small)


def to_compact(sealed: Iterable[Sealed], today: str) -> list[list[Sealed]]:
    """Choose the days that are over and have more than one file of a tenant and table, oldest first."""
    days: dict[tuple[str, str, str], list[Sealed]] = {}
    for file in sorted(sealed, key=lambda file: file.segment):
        if file.day < today:
            days.setdefault((file.day, file.tenant, file.table), []).append(file)
    return [files for _, files in sorted(days.items()) if len(files) > 1]


def compact(folder: Path, segment: int, files: Sequence[Sealed], engine: Engine) -> Sealed:
    """Write the rows of a day's files as one, sorted, a piece at a time; the caller removes them.

    Raises ``OSError``, ``UnreadableFactsError``, and as ``seal.read_footer``.
    """
    tenant, table, day = files[0].place
    owner = OWNER[table]
    batches = KnownBatches()
    for file in files:
        batches.update(seal.read_footer(file.path).batches)
    paths, empty = [file.path for file in files], SCHEMAS[table].empty_table()
    ask = partial(engine.table, table, files=paths, fresh=empty)
    counted = ask(_OWNERS.format(owner), given={}).to_pylist()
    names = ", ".join(column.name for column in STORED[table])
    order = ", ".join(key for key, _ in SORT_ORDER[table])
    question = _ROWS.format(names=names, owner=owner, order=order)
    pieces = (ask(question, given=span._asdict()) for span in spans(counted))
    made = seal.named(folder, tenant, table, day, segment)
    schema = SCHEMAS[table].with_metadata(seal.footer_of(made, batches, (file.segment for file in files)))
    rows = write_pieces(made.path, schema, STORED[table], pieces)
    hours = (min(file.hours[0] for file in files), max(file.hours[1] for file in files))
    return replace(made, rows=rows, hours=hours)


def is_trusted(days: Collection[str], today: str) -> bool:
    """Whether rows came on both of the days before ``today``: then the clock did not just jump ahead.

    Else all that is kept would look old at once. A clock that is put right within two days has lost nothing;
    after a pause of the fleet, days are let go of two days later.
    """
    return all(day_before(today, n) in days for n in range(1, TRUSTED_DAYS + 1))


def day_before(day: str, days: int) -> str:
    """Name the day so many days earlier."""
    return seal.day_of((seal.hour_of_day(day, 0) * 3600 - days * _DAY_S) * 1_000_000)


def expired(sealed: Iterable[Sealed], keep: Keep, today: str, waiting: set[tuple[str, str]]) -> list[Sealed]:
    """Choose the files of days that are no longer kept, but not of those whose rollup is ``waiting``.

    Of ``waiting``, each is a tenant and a day. The newest day of a table is that of any tenant: one who left
    does not keep a last day for ever.
    """
    files = list(sealed)
    newest: dict[str, str] = {}
    for file in files:
        newest[file.table] = max(file.day, newest.get(file.table, ""))
    first = {table: keep.first_day(table, today) for table in FACTS}
    return [
        file
        for file in files
        if file.day < min(first[file.table], newest[file.table])
        and not (file.table == "readings" and (file.tenant, file.day) in waiting)
    ]


def expire(shelf: Shelf, files: Sequence[Sealed]) -> int:
    """Remove files for good; a question that is reading one asks again without it. Raises ``OSError``."""
    shelf.swap(files)
    remove_durably(file.path for file in files)
    _remove_empty({file.path.parent for file in files})
    return len(files)


def expire_rollups(folder: Path, keep: Keep, today: str) -> list[Path]:
    """Remove the rollups of days that are no longer kept. Raises ``OSError``."""
    gone: list[Path] = []
    for level in Level:
        days = list(folder.glob(f"{PREFIX}*/{level}/date=*"))
        newest = max((day.name for day in days), default="")
        first = min(newest, f"date={keep.first_day(level, today)}")
        old = [day for day in days if day.name < first]
        paths = [path for day in old for path in day.iterdir() if path.suffix != BAD]
        remove_durably(paths)
        _remove_empty(old)
        gone += paths
    return gone


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders of days; one with a file that was set aside stays."""
    for folder in folders:
        if not any(folder.iterdir()):
            folder.rmdir()
            sync_folder(folder.parent)
