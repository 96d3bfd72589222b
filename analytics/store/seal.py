"""Sealing: the rows of one spool segment become sorted Parquet files, one a table and day.

``parquet/<table>/date=YYYY-MM-DD/<segment>.parquet``; the day is that of receipt, in UTC. Names follow from
the segment alone, so sealing again after a crash writes the same files over. A segment counts as sealed only
when its spool file is gone: until then its Parquet files are unfinished, whatever they look like.

Each footer names the batches that the segment held: after a restart, duplicates are known from footers.

Small files of a day are merged (``merge``), under a number of their own; the new footer names those it
replaces, so a crash before they are removed leaves no row twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics.clock import HOUR_US
from analytics.errors import StoreError
from analytics.measurement import FACTS
from analytics.store.columns import FOOTER_KEY, SCHEMAS, SORT_ORDER, STORED, as_current, file_metadata
from analytics.store.files import disk_error, make_folder, replace_durably
from analytics.store.known import KnownBatches
from analytics.store.ordered import encodings

FORMAT_VERSION: Final = 1
SUFFIX: Final = ".parquet"
SMALL_ROWS: Final = 100_000
"""A file below this is worth merging; so one merge holds at most ``MANY_FILES`` times as many in memory."""
MANY_FILES: Final = 16
GROUP_ROWS: Final = 1 << 18
"""Rows of a row group: an engine reads a file with as many threads as it has groups."""
_NAME: Final = re.compile(r"^\d{10}\.parquet\Z")

DayTables = Mapping[tuple[str, str], list[pa.Table]]
"""(table, day) -> rows."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """One finished Parquet file."""

    path: Path
    table: str
    day: str  # YYYY-MM-DD
    segment: int
    rows: int
    hours: tuple[int, int] = (0, 0)
    """First and last hour of receipt, in hours since 1970."""
    replaces: frozenset[int] = frozenset()
    """Segments of the same table and day whose rows are in here."""


@dataclass(frozen=True, slots=True)
class Footer:
    """What a Parquet file says of itself."""

    file: Sealed
    batches: KnownBatches


class UnreadableError(Exception):
    """A Parquet file that is torn, foreign or of another version. Never leaves the store."""


def day_of(received_us: int) -> str:
    """Name the UTC day of a moment."""
    return datetime.fromtimestamp(received_us // 1_000_000, UTC).strftime("%Y-%m-%d")


def parquet_path(folder: Path, table: str, day: str, segment: int) -> Path:
    """Name the file of a segment's rows."""
    return folder / table / f"date={day}" / f"{segment:010d}{SUFFIX}"


def seal_segment(folder: Path, segment: int, rows: DayTables, batches: KnownBatches) -> list[Sealed]:
    """Write a segment's rows, durably; safe to repeat. Raises ``OSError``."""
    return [
        _write_file(
            folder, Sealed(parquet_path(folder, table, day, segment), table, day, segment, 0), parts, batches
        )
        for (table, day), parts in rows.items()
    ]


def merge(folder: Path, segment: int, small: Sequence[Sealed]) -> Sealed:
    """Write the rows of a day's small files as one; the caller removes them. Raises as ``read_through``."""
    table, day = small[0].table, small[0].day
    batches = KnownBatches()
    for file in small:
        batches.update(read_footer(file.path).batches)
    parts = [as_current(table, read_through(file.path)) for file in small]
    merged = Sealed(parquet_path(folder, table, day, segment), table, day, segment, 0)
    return _write_file(folder, merged, parts, batches, replaces=[file.segment for file in small])


def to_merge(sealed: Iterable[Sealed]) -> list[list[Sealed]]:
    """Choose small files of one table and day, ``MANY_FILES`` at once, where there are so many."""
    days: dict[tuple[str, str], list[Sealed]] = {}
    for file in sorted(sealed, key=lambda file: file.segment):
        if file.rows < SMALL_ROWS:
            days.setdefault((file.table, file.day), []).append(file)
    return [
        files[at : at + MANY_FILES]
        for files in days.values()
        for at in range(0, len(files) - MANY_FILES + 1, MANY_FILES)
    ]


def _write_file(
    folder: Path, file: Sealed, parts: list[pa.Table], batches: KnownBatches, replaces: Sequence[int] = ()
) -> Sealed:
    make_folder(file.path.parent)
    told = {"format": FORMAT_VERSION, "table": file.table, "segment": file.segment}
    told |= {"batches": list(batches), "replaces": list(replaces)}
    content = pa.concat_tables(parts).sort_by(SORT_ORDER[file.table])
    described = content.replace_schema_metadata(file_metadata(told))
    replace_durably(file.path, partial(_write, described, file.table))
    received = pc.min_max(content["received_us"]).as_py()
    hours = (received["min"] // HOUR_US, received["max"] // HOUR_US)
    return replace(file, rows=content.num_rows, hours=hours)


def _write(content: pa.Table, table: str, file: BinaryIO) -> None:
    pq.write_table(content, file, row_group_size=GROUP_ROWS, **encodings(STORED[table]))


def find_sealed(folder: Path) -> Iterable[Path]:
    """List what could be Parquet files of ours."""
    return sorted(folder.glob(f"*/date=*/*{SUFFIX}"))


def read_footer(path: Path) -> Footer:
    """Check that a file is one of ours and whole to its footer. Raises as ``read_through``."""
    table, day = path.parent.parent.name, path.parent.name.removeprefix("date=")
    if table not in FACTS or not _NAME.match(path.name):
        raise UnreadableError("not named by this store")
    try:
        with pq.ParquetFile(path) as file:
            schema, rows, hours = file.schema_arrow, file.metadata.num_rows, _hours(file.metadata, day)
        told = json.loads((schema.metadata or {})[FOOTER_KEY])
        sources = [(tuple(source), [tuple(r) for r in ranges]) for source, ranges in told["batches"]]
        batches, replaces = KnownBatches(sources), frozenset(told["replaces"])
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise _read_fault(error, path, "no footer of this store: ") from error
    if told.get("format") != FORMAT_VERSION or told.get("table") != table:
        raise UnreadableError(f"another kind: format {told.get('format')}, table {told.get('table')}")
    _check_types(schema, table)
    return Footer(Sealed(path, table, day, int(path.stem), rows, hours, replaces), batches)


def _hours(told: pq.FileMetaData, day: str) -> tuple[int, int]:
    """Tell the hours of receipt from a file's statistics; all of its day where there are none."""
    at = told.schema.names.index("received_us") if "received_us" in told.schema.names else None
    groups = (
        [told.row_group(group).column(at).statistics for group in range(told.num_row_groups)] if at else []
    )
    if not groups or any(one is None or not one.has_min_max for one in groups):
        first = hour_of_day(day, 0)
        return first, first + 23
    return min(one.min for one in groups) // HOUR_US, max(one.max for one in groups) // HOUR_US


def hour_of_day(day: str, hour: int) -> int:
    """Number an hour of a day since 1970. Raises ``ValueError`` for what is no day."""
    return int(datetime.strptime(f"{day}Z", "%Y-%m-%d%z").timestamp()) // 3600 + hour


def _check_types(schema: pa.Schema, table: str) -> None:
    """A file may lack a column that came later, if there is something to say of it; types must be ours."""
    may_lack = {column.name for column in STORED[table] if column.nullable or column.default is not None}
    for wanted in SCHEMAS[table]:
        at = schema.get_field_index(wanted.name)
        if at < 0 and wanted.name not in may_lack:
            raise UnreadableError(f"no column {wanted.name}")
        if at >= 0 and schema.field(at).type != wanted.type:
            raise UnreadableError(f"column {wanted.name} is {schema.field(at).type}, not {wanted.type}")


def read_through(path: Path) -> pa.Table:
    """Read every page of a file.

    Raises ``UnreadableError`` for damage, ``StoreError`` where the file cannot be read now.
    """
    try:
        return pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise _read_fault(error, path) from error


def check_through(path: Path) -> None:
    """Read every page of a file, a row group at a time, and keep none. Raises as ``read_through``."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except (OSError, pa.ArrowException) as error:
        raise _read_fault(error, path) from error


def _read_fault(error: Exception, path: Path, what: str = "") -> Exception:
    """Tell damage from a want of this moment: pyarrow passes an errno on, but gives damage none."""
    if isinstance(error, MemoryError):
        return StoreError(f"reading {path}: {error}", remedy="give the server more memory")
    if isinstance(error, OSError) and error.errno is not None:
        return disk_error(error, "reading", path)
    return UnreadableError(f"{what}{error}")
