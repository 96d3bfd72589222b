"""Sealing: the rows of one spool segment become sorted Parquet files, one a tenant, table and day.

``parquet/tenant=<tenant>/<table>/date=YYYY-MM-DD/<segment>.parquet``; the day is that of receipt, in UTC.
Names follow from the segment alone, so sealing again after a crash writes the same files over. A segment
counts as sealed only when its spool file is gone: until then its Parquet files, those of all tenants, are
unfinished, whatever they look like.

Each footer names the batches of its tenant that the segment held: after a restart, duplicates are known from
footers.

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
from analytics.store.tenants import PREFIX, folder_of, statistics_of, tenant_of, tenants_in

FORMAT_VERSION: Final = 1
SUFFIX: Final = ".parquet"
SMALL_ROWS: Final = 100_000
"""A file below this is worth merging; so one merge holds at most ``MANY_FILES`` times as many in memory."""
MANY_FILES: Final = 16
GROUP_ROWS: Final = 1 << 18
"""Rows of a row group: an engine reads a file with as many threads as it has groups."""
_NAME: Final = re.compile(r"^\d{10}\.parquet\Z")

DayTables = Mapping[tuple[str, str, str], list[pa.Table]]
"""(tenant, table, day) -> rows."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """One finished Parquet file."""

    path: Path
    tenant: str
    table: str
    day: str  # YYYY-MM-DD
    segment: int
    rows: int
    hours: tuple[int, int] = (0, 0)
    """First and last hour of receipt, in hours since 1970."""
    replaces: frozenset[int] = frozenset()
    """Segments of the same tenant, table and day whose rows are in here."""

    @property
    def place(self) -> tuple[str, str, str]:
        """Tenant, table and day: what one folder is of."""
        return self.tenant, self.table, self.day


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


def parquet_path(folder: Path, tenant: str, table: str, day: str, segment: int) -> Path:
    """Name the file of a segment's rows. Raises ``StoreError`` for what is no tenant's name."""
    return folder_of(folder, tenant) / table / f"date={day}" / f"{segment:010d}{SUFFIX}"


def named(folder: Path, tenant: str, table: str, day: str, segment: int) -> Sealed:
    """A file that is still to be written. Raises as ``parquet_path``."""
    return Sealed(parquet_path(folder, tenant, table, day, segment), tenant, table, day, segment, 0)


def seal_segment(folder: Path, segment: int, rows: DayTables, batches: KnownBatches) -> list[Sealed]:
    """Write a segment's rows, durably; safe to repeat. Raises ``OSError``."""
    of = {tenant: batches.of(tenant) for tenant, _, _ in rows}
    return [
        _write_file(named(folder, tenant, table, day, segment), parts, of[tenant])
        for (tenant, table, day), parts in rows.items()
    ]


def merge(folder: Path, segment: int, small: Sequence[Sealed]) -> Sealed:
    """Write the rows of a day's small files as one; the caller removes them. Raises as ``read_through``."""
    tenant, table, day = small[0].place
    batches = KnownBatches()
    for file in small:
        batches.update(read_footer(file.path).batches)
    parts = [as_current(table, read_through(file.path)) for file in small]
    merged = named(folder, tenant, table, day, segment)
    return _write_file(merged, parts, batches, replaces=[file.segment for file in small])


def to_merge(sealed: Iterable[Sealed]) -> list[list[Sealed]]:
    """Choose small files of one tenant, table and day, ``MANY_FILES`` at once, where there are so many."""
    days: dict[tuple[str, str, str], list[Sealed]] = {}
    for file in sorted(sealed, key=lambda file: file.segment):
        if file.rows < SMALL_ROWS:
            days.setdefault(file.place, []).append(file)
    return [
        files[at : at + MANY_FILES]
        for files in days.values()
        for at in range(0, len(files) - MANY_FILES + 1, MANY_FILES)
    ]


def footer_of(file: Sealed, batches: KnownBatches, replaces: Iterable[int] = ()) -> dict[bytes, bytes]:
    """Say what a file is, for its footer."""
    told = {"format": FORMAT_VERSION, "table": file.table, "segment": file.segment}
    return file_metadata(told | {"batches": list(batches), "replaces": list(replaces)})


def _write_file(
    file: Sealed, parts: list[pa.Table], batches: KnownBatches, replaces: Sequence[int] = ()
) -> Sealed:
    make_folder(file.path.parent)
    content = pa.concat_tables(parts).sort_by(SORT_ORDER[file.table])
    described = content.replace_schema_metadata(footer_of(file, batches, replaces))
    replace_durably(file.path, partial(_write, described, file.table))
    received = pc.min_max(content["received_us"]).as_py()
    hours = (received["min"] // HOUR_US, received["max"] // HOUR_US)
    return replace(file, rows=content.num_rows, hours=hours)


def _write(content: pa.Table, table: str, file: BinaryIO) -> None:
    pq.write_table(content, file, row_group_size=GROUP_ROWS, **encodings(STORED[table]))


def find_sealed(folder: Path) -> Iterable[Path]:
    """List what could be Parquet files of ours."""
    return sorted(folder.glob(f"{PREFIX}*/*/date=*/*{SUFFIX}"))


def read_footer(path: Path) -> Footer:
    """Check that a file is one of ours, of its folder's tenant and whole to its footer.

    Raises as ``read_through``.
    """
    footer, tenants = read_told(path)
    tenant = tenant_of(path.parents[2].name)
    if not tenant:
        raise UnreadableError("not in a tenant's folder")
    if others := sorted(tenants - {tenant}):
        raise UnreadableError(f"rows of another tenant, {others[0]!r}, in a folder of {tenant!r}")
    return replace(footer, file=replace(footer.file, tenant=tenant))


def read_told(path: Path) -> tuple[Footer, set[str]]:
    """Read a file's footer, and whose rows it has, whatever folder it is in. Raises as ``read_through``."""
    table, day = path.parent.parent.name, path.parent.name.removeprefix("date=")
    if table not in FACTS or not _NAME.match(path.name):
        raise UnreadableError("not named by this store")
    try:
        with pq.ParquetFile(path) as file:
            schema, rows, hours = file.schema_arrow, file.metadata.num_rows, _hours(file.metadata, day)
            tenants = tenants_in(file)
        told = json.loads((schema.metadata or {})[FOOTER_KEY])
        sources = [(tuple(source), [tuple(r) for r in ranges]) for source, ranges in told["batches"]]
        batches, replaces = KnownBatches(sources), frozenset(told["replaces"])
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise read_fault(error, path, "no footer of this store: ") from error
    if told.get("format") != FORMAT_VERSION or told.get("table") != table:
        raise UnreadableError(f"another kind: format {told.get('format')}, table {told.get('table')}")
    _check_types(schema, table)
    return Footer(Sealed(path, "", table, day, int(path.stem), rows, hours, replaces), batches), tenants


def _hours(told: pq.FileMetaData, day: str) -> tuple[int, int]:
    """Tell the hours of receipt from a file's statistics; all of its day where there are none."""
    at = told.schema.names.index("received_us") if "received_us" in told.schema.names else None
    groups = [statistics_of(told, group, at) for group in range(told.num_row_groups)] if at else []
    known = [one for one in groups if one is not None and one.has_min_max]
    if not groups or len(known) < len(groups):
        first = hour_of_day(day, 0)
        return first, first + 23
    return min(one.min for one in known) // HOUR_US, max(one.max for one in known) // HOUR_US


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
    except (OSError, pa.ArrowException, ValueError) as error:  # the last: a name that is not UTF-8
        raise read_fault(error, path) from error


def check_through(path: Path) -> None:
    """Read every page of a file, a row group at a time, and keep none. Raises as ``read_through``."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except (OSError, pa.ArrowException, ValueError) as error:  # the last: a name that is not UTF-8
        raise read_fault(error, path) from error


def read_fault(error: Exception, path: Path, what: str = "") -> Exception:
    """Tell damage from a want of this moment: pyarrow passes an errno on, but gives damage none.

    Returns an ``UnreadableError``, or a ``StoreError`` to be tried again.
    """
    if isinstance(error, MemoryError):
        return StoreError(f"reading {path}: {error}", remedy="give the server more memory")
    if isinstance(error, OSError) and error.errno is not None:
        return disk_error(error, "reading", path)
    return UnreadableError(f"{what}{error}")
