"""What a backup of a data folder has in it, and in which form. Pure.

A backup is one tar file (POSIX 1003.1-2001, "pax"): the files of the folder under their own names, and last
``MANIFEST``, which names each with its size and SHA-256. Without a manifest it was never finished.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Final

import msgspec

from analytics.errors import UNREADABLE
from server.errors import BackupError

FORMAT: Final = "pathgrade-backup 1"
MANIFEST: Final = "manifest.json"
STATE: Final = "state.sqlite"
MOST_MANIFEST: Final = 256 * 2**20
"""Bytes: a million files have less."""

LEFT_OUT: Final = {
    "store.lock": "held by whoever runs",
    "server.lock": "as that one",
    "tmp": "what is spilled",
    "state.duckdb": "made anew from the rest",
    "state.duckdb.wal": "of that",
    STATE: "copied by SQLite itself, which knows what is written meanwhile",
    f"{STATE}-wal": "of that",
    f"{STATE}-shm": "of that",
    MANIFEST: "ours",
}
"""Names in the data folder that are not copied as they are, and why. Whatever else is there is copied."""

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class FileTold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file."""

    path: str
    size: Annotated[int, msgspec.Meta(ge=0)]  # bytes
    sha256: Sha256


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What there is, and what there is not."""

    format: str
    version: str  # of pathgrade
    state_version: int
    begun_us: int
    files: list[FileTold]
    not_in_it: list[str]  # in words


def is_copied(path: PurePosixPath) -> bool:
    """Say whether a file of the data folder, named from there, is copied as it is."""
    return path.parts[0] not in LEFT_OUT and not path.name.endswith(".tmp")


def missing(lake: bool, outside: Iterable[str]) -> list[str]:
    """Say what a backup does not have that the server needs or shows."""
    said = [f"{path}: named by a setting, outside of the data folder" for path in outside]
    if lake:
        said.insert(0, "the lake: back up its PostgreSQL database and its Parquet with their own tools")
    return said


def safe_name(name: str) -> PurePosixPath:
    """Read the name of a member; raises ``BackupError`` for one that leads elsewhere."""
    path = PurePosixPath(name)
    usual = name.isprintable() and "\\" not in name and len(name) <= 1_000  # ours are short
    inside = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    if not (usual and inside and str(path) == name):
        raise BackupError(
            f"the backup has a file called {name[:80]!r}", remedy="take one that pathgrade made"
        )
    return path


def read_manifest(body: bytes) -> Manifest:
    """Read a manifest; raises ``BackupError``."""
    try:
        found = msgspec.json.decode(body, type=Manifest)
    except UNREADABLE as error:
        raise BackupError(
            f"the backup's manifest does not read: {error}",
            remedy="take another backup, or a newer pathgrade",
        ) from error
    if found.format != FORMAT:
        raise BackupError(f"the backup is of format {found.format!r}", remedy="take a newer pathgrade")
    return found
