"""The switch on the host itself, ``pathgrade agent mesh off``: a file in the agent's data folder.

It works whether the agent runs or not, needs no server, and no server can switch it back. While the file is
there, active tests are off; a file that cannot be read says off too.
"""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from agent import durable
from agent.errors import FolderError
from analytics.errors import UNREADABLE
from analytics.wire import LocalOff

FILE_NAME: Final = "mesh-off.json"
MAX_FILE: Final = 4_096
LOOK_S: Final = 0.5
"""A stat(2) each: two seconds are promised."""

Mark = tuple[int, int, int]


def read(data: Path) -> LocalOff | None:
    """Say whether active tests are switched off here; None = they are not."""
    try:
        with (data / FILE_NAME).open("rb") as file:
            return msgspec.json.decode(file.read(MAX_FILE), type=LocalOff)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        return LocalOff(
            since_us=_since_us(data), by="not known", note=f"{FILE_NAME} cannot be read: {why}"[:200]
        )


def switch_off(data: Path, off: LocalOff) -> LocalOff:
    """Switch off, durably; what is off already stays as it was. Raises ``FolderError``."""
    known = read(data)
    if known is not None:
        return known
    _in_folder(data, lambda: durable.replace(data / FILE_NAME, msgspec.json.encode(off)))
    return off


def switch_on(data: Path) -> LocalOff | None:
    """Switch on, durably; gives what was switched off. Raises ``FolderError``."""
    known = read(data)
    if known is not None:
        _in_folder(data, lambda: durable.remove(data / FILE_NAME))
    return known


def require_folder(data: Path) -> None:
    """Raise ``FolderError`` unless there is a folder: a slip in its name must not pass for a switch."""
    _in_folder(data, lambda: _stat(data))


def _stat(data: Path) -> None:
    if not stat.S_ISDIR(data.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _in_folder(data: Path, act: Callable[[], None]) -> None:
    """Do something in the data folder; raises ``FolderError``."""
    try:
        act()
    except OSError as error:
        raise FolderError(
            f"switch active tests in {data}: {error.strerror}",
            remedy="run it as root, or as the agent's user\n"
            "name the agent's data folder with --data, or its configuration with --config",
        ) from error


def who() -> str:
    """Name who runs this process, also behind sudo(8)."""
    if (before := os.environ.get("SUDO_USER")) and os.getuid() == 0:
        return before[:64]
    try:
        return pwd.getpwuid(os.getuid()).pw_name[:64]
    except KeyError:
        return f"uid {os.getuid()}"


async def watch(data: Path, changed: Callable[[LocalOff | None], None], *, every_s: float = LOOK_S) -> None:
    """Call ``changed`` each time the switch is another, until cancelled; the first time at once."""
    seen: Mark | str | None = "nothing yet"
    while True:
        if (mark := _mark(data)) != seen:
            seen = mark
            changed(read(data))
        await asyncio.sleep(every_s)


def _mark(data: Path) -> Mark | None:
    """Tell one state of the file from another; None = it is not there."""
    try:
        found = os.stat(data / FILE_NAME)  # noqa: PTH116  # twice a second: without a Path made of it
    except FileNotFoundError:
        return None
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size


def _since_us(data: Path) -> int:
    try:
        return (data / FILE_NAME).stat().st_mtime_ns // 1_000
    except OSError:
        return 0
