"""Taking up what an earlier process left: sealed files by their footers, spooled batches by reading them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from analytics.batch import SCHEMA_VERSION, Batch, check_batch
from analytics.errors import BatchError, SchemaVersionError, StoreError
from analytics.store import seal, spool
from analytics.store.files import BAD, remove_unfinished, set_aside, sync_folder
from analytics.store.glance import right_columns
from analytics.store.known import BatchKey, KnownBatches
from analytics.store.seal import Footer, Sealed, UnreadableError
from analytics.store.tenants import PREFIX, folder_of, is_name, tenants_below
from analytics.store.unsealed import Arrived, Unsealed

log: Final = logging.getLogger(__name__)

MOST_US: Final = 253_402_300_800_000_000
"""Year 10000: later moments have no day."""


@dataclass(slots=True)
class Left:
    """What was found."""

    sealed: dict[Path, Sealed] = field(default_factory=dict)
    unsealed: dict[int, Unsealed] = field(default_factory=dict)
    known: KnownBatches = field(default_factory=KnownBatches)
    next_segment: int = 1
    torn_tails: int = 0
    damaged_segments: int = 0
    frames_set_aside: int = 0
    files_set_aside: int = 0


def recover(spool_folder: Path, parquet_folder: Path, known: KnownBatches) -> Left:
    """Read a data folder, beside the batches ``known`` from elsewhere.

    Raises ``OSError``, or ``StoreError`` for a spool of another version, or with batches of a newer one.
    """
    left = Left(known=known)
    for tenant in tenants_below(parquet_folder):
        remove_unfinished(folder_of(parquet_folder, tenant))
    segments = {int(path.stem): path for path in sorted(spool_folder.glob(f"*{spool.SUFFIX}"))}
    for footer in _finished(parquet_folder, set(segments), left):
        left.sealed[footer.file.path] = footer.file
        left.known.update(footer.batches)
    for number, path in segments.items():
        left.unsealed[number] = _segment(path, left)
    left.next_segment = 1 + max(_numbers_used(spool_folder, parquet_folder), default=0)
    return left


def put_aside(path: Path, why: Exception) -> None:
    """Rename a file that cannot be read, and say so."""
    log.error("%s cannot be read and is set aside as %s: %s", path, set_aside(path).name, why)


def _finished(folder: Path, spooled: set[int], left: Left) -> list[Footer]:
    """Files that count: readable, sealed to the end, and not replaced by a merged one."""
    footers = []
    for path in seal.find_sealed(folder):
        if path.stem.isdigit() and int(path.stem) in spooled:
            continue  # sealing it was not finished; it will be written again
        try:
            footers.append(seal.read_footer(path))
        except UnreadableError as error:
            put_aside(path, error)
            left.files_set_aside += 1
    replaced = {(f.file.path.parent, number) for f in footers for number in f.file.replaces}
    for footer in footers:
        if (footer.file.path.parent, footer.file.segment) in replaced:
            footer.file.path.unlink()
            sync_folder(footer.file.path.parent)
    return [f for f in footers if (f.file.path.parent, f.file.segment) not in replaced]


def _segment(path: Path, left: Left) -> Unsealed:
    content = spool.recover_segment(path)
    unsealed = Unsealed(damaged=content.damaged_bytes > 0)
    left.torn_tails += content.torn_bytes > 0
    left.damaged_segments += unsealed.damaged
    if content.torn_bytes or unsealed.damaged:
        lost = (path, content.torn_bytes, content.damaged_bytes)
        log.warning("spool segment %s: cut a torn tail of %d bytes, stepped over %d damaged bytes", *lost)
    wrong: list[BatchError] = []
    for frame in content.frames:
        try:
            batch = _batch_of(frame, path)
        except BatchError as error:
            wrong.append(error)
            continue
        key = BatchKey(frame.tenant, batch.agent, batch.boot, batch.batch)
        if key not in left.known:
            unsealed.add(Arrived(batch, frame.tenant, frame.received_us), len(frame.body), key)
            left.known.add(key)
    if wrong:
        _leave_out(path, unsealed, wrong)
        left.frames_set_aside += len(wrong)
    return unsealed


def _batch_of(frame: spool.Frame, path: Path) -> Batch:
    """Read a frame that is whole. Raises ``BatchError``; ``StoreError`` where a later build would read it."""
    if not is_name(frame.tenant) or frame.received_us >= MOST_US:
        raise BatchError(f"no tenant or no moment: {frame.tenant[:63]!r}, {frame.received_us}")
    try:
        return check_batch(frame.body, right_columns)
    except SchemaVersionError as error:
        if error.seen <= SCHEMA_VERSION:
            raise
        raise StoreError(
            f"{path} has batches of a newer version: {error}",
            remedy="start the version of the server that wrote it once, so that it seals the spool",
        ) from error


def _leave_out(path: Path, unsealed: Unsealed, wrong: list[BatchError]) -> None:
    """Keep the segment's file when the rest is sealed: who looks for what was left out finds it there."""
    unsealed.damaged = True
    what = f"{len(wrong)} frame{'s' * (len(wrong) > 1)} that {'are' if len(wrong) > 1 else 'is'} no batch"
    log.error("spool segment %s: left out %s; its file will be kept: %s", path, what, wrong[0])


def _numbers_used(spool_folder: Path, parquet_folder: Path) -> Iterator[int]:
    """Numbers of all segments ever seen here, those set aside too: a name is never used twice."""
    names = [*spool_folder.iterdir(), *parquet_folder.glob(f"{PREFIX}*/*/date=*/*")]
    stems = (path.name.removesuffix(BAD).partition(".")[0] for path in names)
    return (int(stem) for stem in stems if stem.isdigit())
