"""Key files of the data folder: whole or not there, for their owner only."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from server.errors import StateError

MAX_FILE: Final = 16 * 1024
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def read(path: Path, *, remedy: str) -> bytes:
    """Read a key file. Raises ``FileNotFoundError``, and ``StateError``, also if others may read it."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS:
                raise StateError(
                    f"use {path}: others than its owner may read or write it",
                    remedy=f"chmod 600 {path}; if others could read it, take it for stolen: {remedy}",
                )
            return file.read(MAX_FILE)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unusable(path, f"read: {error.strerror}", remedy=remedy) from error


def make(path: Path, content: bytes, *, remedy: str) -> bool:
    """Write a file that is not there yet, fsynced; False if another process was faster.

    Raises ``StateError``. A command that root runs beside the server makes it the folder's owner's.
    """
    try:
        temporary = _written(path, content)
        try:
            os.link(temporary, path)  # unlike rename, not over what another made meanwhile
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        _sync_folder(path.parent)
    except OSError as error:
        raise unusable(path, f"write: {error.strerror}", remedy=remedy) from error
    return True


def replace(path: Path, content: bytes, *, remedy: str) -> None:
    """Write a file in the place of what is there, as ``make``: one or the other is there at any time."""
    try:
        temporary = _written(path, content)
        try:
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise unusable(path, f"write: {error.strerror}", remedy=remedy) from error


def remove(path: Path, *, remedy: str) -> None:
    """Remove a file, if it is there. Raises ``StateError``."""
    try:
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise unusable(path, f"remove: {error.strerror}", remedy=remedy) from error


def unusable(path: Path, why: str, *, remedy: str) -> StateError:
    """Say that a key file cannot be used."""
    return StateError(f"use {path}: {why}", remedy=remedy)


def _written(path: Path, content: bytes) -> Path:
    """Write a file beside the one that it is to be, whole; a backup leaves it out."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            owner = path.parent.stat()
            if os.geteuid() == 0 and owner.st_uid != 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
