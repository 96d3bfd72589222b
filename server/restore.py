"""A data folder from a backup: written beside the new one, checked byte by byte, then given its name."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import msgspec

from analytics import words
from analytics.clock import now_us
from analytics.store.files import sync_folder
from server.api.audits import COMMAND, AuditRow
from server.backup_plan import (
    MANIFEST,
    MOST_MANIFEST,
    STATE,
    FileTold,
    Manifest,
    read_manifest,
    safe_name,
)
from server.database import DEFAULT_TENANT, STATE_VERSION, connect, transaction
from server.errors import BackupError, backup_errors
from server.ledger import append

PIECE: Final = 1 << 20
SAY_EACH_S: Final = 2.0
DAMAGED: Final = "take another backup: this one was cut short, or changed since it was made"

Say = Callable[[str], None]

REMEDY: Final = "see that there is room, and that it can be written"


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that is ready for a server."""

    data: str
    files: int
    size: int  # bytes
    begun_us: int  # when the backup was
    version: str  # of the pathgrade that made it
    not_in_it: list[str]


def restore(file: Path, data: Path, *, say: Say) -> Restored:
    """Make the folder ``data`` from a backup. Raises ``BackupError`` and ``StateError``.

    ``data`` must not be there, or be empty; it appears with everything in it, or not at all.
    """
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise BackupError(
            f"restore to {data}: it is not an empty folder", remedy="name another, or move that one away"
        )
    place = data.resolve()  # systemd's folder of a dynamic user stands behind a link
    staging = place.with_name(f"{place.name}.restoring.tmp")
    with backup_errors(f"restore {file} to {data}", REMEDY):
        shutil.rmtree(staging, ignore_errors=True)  # of one that was killed
        staging.mkdir(mode=0o700, parents=True)
        try:
            manifest = _extracted(file, staging, say)
            _note(staging, file)
            _own_as(place, staging)
            _sync(staging)
            staging.rename(place)  # over an empty folder, too
            sync_folder(place.parent)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    return Restored(
        data=str(data),
        files=len(manifest.files),
        size=sum(told.size for told in manifest.files),
        begun_us=manifest.begun_us,
        version=manifest.version,
        not_in_it=manifest.not_in_it,
    )


def _extracted(file: Path, staging: Path, say: Say) -> Manifest:
    try:
        with tarfile.open(file, mode="r:") as tar:
            return _members(tar, staging, say)
    except tarfile.TarError as error:
        raise BackupError(f"read {file}: {error}", remedy=DAMAGED) from error


def _members(tar: tarfile.TarFile, staging: Path, say: Say) -> Manifest:
    found: dict[str, FileTold] = {}
    size, said_s = 0, time.monotonic()
    for member in tar:
        path = safe_name(member.name)
        # A link's would be another's. A sparse one of a kilobyte could say that it is a disk full of zeroes.
        content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
        if content is None or member.name in found:
            raise BackupError(f"the backup has {member.name!r}, which is no file of its own", remedy=DAMAGED)
        if member.name == MANIFEST:
            return _checked(content.read(MOST_MANIFEST), found)
        found[member.name] = told = _write(member.name, content, staging / path)
        size += told.size
        if time.monotonic() > said_s + SAY_EACH_S:
            said_s = time.monotonic()
            say(f"{words.count(len(found), 'file')}, {words.size(size)}")
    raise BackupError("the backup has no manifest: it was never finished", remedy=DAMAGED)


def _checked(body: bytes, found: dict[str, FileTold]) -> Manifest:
    """Hold what was there against what was told; raises ``BackupError``."""
    manifest = read_manifest(body)
    if manifest.state_version > STATE_VERSION:
        raise BackupError(
            f"the backup is of state version {manifest.state_version}; this pathgrade knows {STATE_VERSION}",
            remedy=f"install pathgrade {manifest.version} or a newer one",
        )
    told = {one.path: one for one in manifest.files}
    for name in sorted(told.keys() | found.keys()):
        if told.get(name) != found.get(name):
            raise BackupError(f"{name} is not as it was backed up", remedy=DAMAGED)
    if STATE not in told:
        raise BackupError(f"the backup has no {STATE}", remedy=DAMAGED)
    return manifest


def _write(name: str, content: IO[bytes], path: Path) -> FileTold:
    """Write a member for the owner only, and say what it was; a short one raises ``tarfile.ReadError``."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        while piece := content.read(PIECE):
            digest.update(piece)
            size += out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    return FileTold(path=name, size=size, sha256=digest.hexdigest())


def _note(data: Path, file: Path) -> None:
    """Put into the audit log that the folder goes on from a backup: what was done since is not in it."""
    engine = connect(data / STATE)
    row = AuditRow(at_us=now_us(), actor=COMMAND, action="restore", subject=str(file)[:500])
    try:
        with transaction(engine) as connection:
            append(connection, DEFAULT_TENANT, [row])
    finally:
        engine.dispose()


def _own_as(place: Path, staging: Path) -> None:
    """Give all of it to whom the empty folder belongs, as systemd makes it for the server's user."""
    if not place.exists() or os.geteuid() != 0:
        return
    owner = place.stat()
    for path in (staging, *staging.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)


def _sync(folder: Path) -> None:
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(path)
