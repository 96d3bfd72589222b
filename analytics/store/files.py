"""The few file operations that durability is made of."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from analytics.errors import StoreError, StoreFullError, StoreLockedError

TMP = ".tmp"
BAD = ".bad"


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a rename or a new file is not, until its folder is synced."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, durably."""
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for part in missing:
        sync_folder(part.parent)


def replace_durably(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a whole file so that after a crash there is the old one, or none, or all of the new one."""
    tmp = path.with_name(path.name + TMP)
    try:
        with tmp.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        tmp.rename(path)
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_durably(paths: Iterable[Path]) -> None:
    """Remove files, so that none is back after a crash. One that is gone already is no fault."""
    folders = set()
    for path in paths:
        path.unlink(missing_ok=True)
        folders.add(path.parent)
    for folder in folders:
        sync_folder(folder)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left of ``replace_durably`` in the folders of a tenant's days."""
    for path in folder.glob(f"*/date=*/*{TMP}"):
        path.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used, so that nothing reads it and nothing deletes it."""
    aside = path.with_name(path.name + BAD)
    path.rename(aside)
    sync_folder(path.parent)
    return aside


@contextmanager
def disk_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn ``OSError`` into the store's errors, with the operation and the place."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, doing, path) from error


def disk_error(error: OSError, doing: str, path: Path) -> StoreError:
    """Say what failed where, and what to try."""
    told = f"{doing} {path}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFullError(told, remedy="free space; what was acknowledged is kept, agents keep the rest")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        return StoreError(told, remedy="name a folder that this process may write to")
    return StoreError(told, remedy="check the disk; agents keep what was not acknowledged")


class FolderLock:
    """Held for as long as the store is open: two servers on one folder would both seal."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises ``StoreLockedError`` with the holder's process id."""
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read(20).strip() or "unknown"
            self._file.close()
            raise StoreLockedError(
                f"{path.parent} is in use by process {holder}",
                remedy="stop that server, or give this one another data folder",
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Give the folder back."""
        self._file.close()
