"""The agent's data folder: one agent in it, handed over by root, usable by whom the agent becomes.

Root reaches into a folder that an unprivileged user may write: links are never followed, and only the agent's
own names are touched.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from agent import credential, identity, local_switch, spent
from agent.errors import FolderError
from agent.local import SOCKET_NAME
from agent.mesh import peers

log: Final = logging.getLogger("pathgrade.agent.folder")

LOCK_NAME: Final = "agent.lock"
OUTBOX_NAME: Final = "outbox"

HANDED_OVER: Final = (
    LOCK_NAME,
    identity.FILE_NAME,
    credential.FILE_NAME,
    peers.FILE_NAME,
    *(switch.file_name for switch in local_switch.SWITCHES),
    spent.FILE_NAME,
    OUTBOX_NAME,
)
"""What the agent writes after it gave root up. Its socket is made anew at each start."""

KNOWN: Final = frozenset({*HANDED_OVER, SOCKET_NAME, Path(identity.FILE_NAME).stem, "cache", "lost+found"})
"""What may be in it, also with ``.tmp`` after it. The cache stays root's: it runs in the kernel."""

_NO_LINKS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_EXECUTE: Final = (stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH)


@contextmanager
def exclusive(data: Path) -> Iterator[None]:
    """Make the data folder and keep other agents out of it; raises ``FolderError``."""
    with _errors(data, "set data to a folder that the agent's user can write"):
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(data / LOCK_NAME, os.O_RDWR | os.O_CREAT | _NO_LINKS, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise FolderError(
            f"use {data}: another agent holds it", remedy="give each agent a data folder of its own"
        ) from error
    try:
        yield
    finally:
        os.close(lock)


def hand_over(data: Path, *, uid: int, gid: int) -> None:
    """Make the folder and what an earlier life left in it that user's. Raises ``FolderError``.

    The folder comes last: where it is the user's already, its content is, but for what root put there since.
    """
    with _errors(data, "start the agent with CAP_CHOWN, or chown the folder to its user"):
        folder = os.open(data, _FOLDER)
        try:
            _require_own(data, folder, uid)
            owners = {0, os.fstat(folder).st_uid}
            for name in HANDED_OVER:
                _hand_over(name, folder, uid=uid, gid=gid, owners=owners)
            if os.fstat(folder).st_uid != uid:
                os.fchown(folder, uid, gid)
        finally:
            os.close(folder)


def require_usable(data: Path, *, uid: int, gid: int) -> None:
    """Raise ``FolderError`` unless this process, by now that user, can work in the folder."""
    if os.access(data, os.R_OK | os.W_OK | os.X_OK):
        return
    if (closed := closed_parent(data, uid=uid, gid=gid)) is not None:
        raise FolderError(
            f"use {data}: uid {uid} cannot pass {closed}",
            remedy=f"set data to a folder below /var/lib\nchmod o+x {closed}",
        )
    raise FolderError(f"use {data}: uid {uid} cannot write it", remedy=f"chown {uid}:{gid} {data}")


def closed_parent(path: Path, *, uid: int, gid: int) -> Path | None:
    """Find the highest folder above ``path`` that a user without further groups cannot pass; else None."""
    for folder in reversed(path.resolve().parents):
        with suppress(FileNotFoundError):  # the agent will make it, with a mode that it can pass
            if not _passable(folder.stat(), uid=uid, gid=gid):
                return folder
    return None


def strangers(data: Path) -> list[str]:
    """List what in the folder is not an agent's, sorted."""
    return sorted(path.name for path in data.iterdir() if path.name.removesuffix(".tmp") not in KNOWN)


def _passable(status: os.stat_result, *, uid: int, gid: int) -> bool:
    """As the kernel decides: the first class that fits, not the best one."""
    user, group, other = _EXECUTE
    bit = user if status.st_uid == uid else group if status.st_gid == gid else other
    return bool(status.st_mode & bit)


def _require_own(data: Path, folder: int, uid: int) -> None:
    """Guard a slip in the configuration: ``data = "/var/lib"`` must not give /var/lib away."""
    if os.fstat(folder).st_uid == uid:
        return
    if others := strangers(data):
        raise FolderError(
            f"hand {data} over to uid {uid}: it holds what is not the agent's ({', '.join(others[:3])})",
            remedy=f"set data to a folder of its own\nif it is the agent's after all: chown {uid} {data}",
        )


def _hand_over(name: str, folder: int, *, uid: int, gid: int, owners: set[int]) -> None:
    """Change the owner of a file, or of a folder and what is in it; of nothing else."""
    try:
        entry = os.open(name, os.O_RDONLY | _NO_LINKS, dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError as error:  # ELOOP: a symbolic link; ENXIO: a socket
        log.warning("not handed over name=%s why=%r", name, error.strerror)
        return
    try:
        _hand_over_opened(name, entry, uid=uid, gid=gid, owners=owners)
    finally:
        os.close(entry)


def _hand_over_opened(name: str, entry: int, *, uid: int, gid: int, owners: set[int]) -> None:
    found = os.fstat(entry)
    if found.st_uid == uid:
        return
    folder = stat.S_ISDIR(found.st_mode)
    # A file with a second name: somebody may have linked one of root's into the folder.
    sole = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    if found.st_uid not in owners or not (folder or sole):
        log.warning("not handed over name=%s why=%r", name, "not the agent's alone")
        return
    for inner in os.listdir(entry) if folder else ():
        _hand_over(inner, entry, uid=uid, gid=gid, owners=owners)
    os.fchown(entry, uid, gid)


@contextmanager
def _errors(data: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FolderError(f"use {data}: {error.strerror}", remedy=remedy) from error
