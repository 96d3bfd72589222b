"""How a data folder lies, and the one step from how it lay: files of all tenants become files of each.

Before, files were ``parquet/<table>/date=<day>/<segment>.parquet`` and ``rollup/<level>/date=<day>/..``, and
each held the rows of all tenants. When such a folder is opened, a file with the rows of one tenant is renamed
into that tenant's folder. One with the rows of several is written again, a file for each under the same name,
and removed when all of them are durable. That may be repeated: until the old file is gone, it is the truth,
and the new ones are written over. So a crash at any moment neither loses nor doubles a row.

What was not whole is treated as ever: files of a segment that is still in the spool are removed, and those
that were merged into another; what cannot be read is set aside where it lies.

``layout`` in the data folder says that it is done. An older version does not look into tenants' folders; what
it writes beside them afterwards has numbers that are taken, so it is refused instead of mixed in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics.errors import StoreError
from analytics.rollup import Level
from analytics.store import rolled, seal, spool
from analytics.store.columns import ROLLUP, ROLLUP_SCHEMA, SCHEMAS, STORED, as_current, file_metadata
from analytics.store.files import (
    BAD,
    make_folder,
    remove_durably,
    remove_unfinished,
    replace_durably,
    sync_folder,
)
from analytics.store.ordered import write_pieces
from analytics.store.recover import put_aside
from analytics.store.seal import Footer, UnreadableError
from analytics.store.tenants import folder_of, is_name, tenants_in

log: Final = logging.getLogger(__name__)

NAME: Final = "layout"
SAYS: Final = b"PGLAYOUT 2\n"
"""1 was without this file."""

Write = Callable[[Path, str], object]
"""Writes a tenant's rows of an old file to a path, whole and durably."""
Told = TypeVar("Told")


def bring(data: Path) -> int:
    """Bring a data folder to today's layout; returns how many files were set aside.

    Raises ``OSError`` or ``StoreError``; then it can be repeated.
    """
    mark = data / NAME
    if mark.exists() and mark.read_bytes() != SAYS:
        raise StoreError(
            f"{mark} is not of layout 2", remedy="start the version of the server that wrote this folder"
        )
    old = [*_old_files(data / "parquet"), *_old_files(data / "rollup")]
    if mark.exists() and old:
        raise StoreError(
            f"{old[0]} was written by an older version, after this folder had a folder for each tenant",
            remedy="move what lies beside the folders tenant=.. out of parquet and rollup, and start again;\n"
            "an older version must not be started on this folder",
        )
    if old:
        _move_facts(data)
        _move_rollups(data)
        log.warning("%s: %d files of before were moved into a folder for each tenant", data, len(old))
    if not mark.exists():
        replace_durably(mark, _say)
    _remove_empty(data / "parquet")
    _remove_empty(data / "rollup")
    return sum(path.with_name(path.name + BAD).exists() for path in old)


def _say(file: BinaryIO) -> None:
    file.write(SAYS)


def _old_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*/date=*/*{seal.SUFFIX}"))


# --- facts --------------------------------------------------------------------------------------------------


def _move_facts(data: Path) -> None:
    parquet = data / "parquet"
    remove_unfinished(parquet)
    spooled = {path.stem for path in (data / "spool").glob(f"*{spool.SUFFIX}")}
    remove_durably(path for path in _old_files(parquet) if path.stem in spooled)  # will be sealed again
    told = _readable(_old_files(parquet), seal.read_told)
    replaced = {(f.file.path.parent, number) for _, (f, _) in told for number in f.file.replaces}
    gone = {path for path, (f, _) in told if (path.parent, f.file.segment) in replaced}
    remove_durably(sorted(gone))
    for path, (footer, tenants) in told:
        if path not in gone:
            _move(path, parquet, tenants, partial(_write_facts, footer))


def _write_facts(footer: Footer, target: Path, tenant: str) -> None:
    file = footer.file
    schema = SCHEMAS[file.table].with_metadata(seal.footer_of(file, footer.batches.of(tenant)))
    pieces = (as_current(file.table, rows) for rows in _rows_of(file.path, tenant))
    write_pieces(target, schema, STORED[file.table], pieces)


# --- rollups ------------------------------------------------------------------------------------------------


def _move_rollups(data: Path) -> None:
    folder = data / "rollup"
    remove_unfinished(folder)
    for path, tenants in _readable(_old_files(folder), _whose):
        _move(path, folder, tenants, partial(_write_rollup, path))


def _whose(path: Path) -> set[str]:
    if path.parents[1].name not in set(Level):
        raise UnreadableError("not named by this store")
    try:
        with pq.ParquetFile(path) as file:
            return tenants_in(file)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise seal.read_fault(error, path) from error


def _write_rollup(path: Path, target: Path, tenant: str) -> None:
    told = file_metadata({"format": rolled.FORMAT_VERSION, "table": path.parents[1].name})
    write_pieces(target, ROLLUP_SCHEMA.with_metadata(told), ROLLUP, _rows_of(path, tenant))


# --- one file -----------------------------------------------------------------------------------------------


def _readable(paths: Iterable[Path], read: Callable[[Path], Told]) -> list[tuple[Path, Told]]:
    """Read what files say of themselves; what cannot be read is set aside."""
    found = []
    for path in paths:
        try:
            found.append((path, read(path)))
        except UnreadableError as error:
            put_aside(path, error)
    return found


def _move(path: Path, root: Path, tenants: set[str], write: Write) -> None:
    """Move one old file; afterwards it is gone, and what was in it is in the tenants' folders."""
    try:
        if not all(map(is_name, tenants)):
            raise UnreadableError(f"rows of {sorted(tenants)}, which are no names of tenants")
        targets = {tenant: folder_of(root, tenant) / path.relative_to(root) for tenant in sorted(tenants)}
        if len(targets) == 1:
            return _rename(path, *targets.values())
        seal.check_through(path)  # before any part of it counts
        for tenant, target in targets.items():
            write(target, tenant)
    except UnreadableError as error:
        return put_aside(path, error)
    remove_durably([path])


def _rename(path: Path, target: Path) -> None:
    """The new name is durable before the old one is gone; after a crash there may be both, of one file."""
    make_folder(target.parent)
    path.rename(target)
    path.unlink(missing_ok=True)  # a rename of one name of a file to another of its names does nothing
    sync_folder(target.parent)
    sync_folder(path.parent)


def _rows_of(path: Path, tenant: str) -> Iterator[pa.Table]:
    """Read a tenant's rows, a row group at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            if found := rows.filter(pc.equal(rows["tenant"], tenant)):
                yield found


def _remove_empty(root: Path) -> None:
    """Remove folders that nothing is left in; while nobody else writes."""
    for folder in sorted(root.glob("**/"), reverse=True):
        if folder != root and not any(folder.iterdir()):
            folder.rmdir()
            sync_folder(folder.parent)
