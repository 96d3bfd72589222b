"""The switches on the host itself, ``pathgrade agent mesh off`` and ``passive off``: files of its folder.

They work whether the agent runs or not, need no server, and no server can switch them back. While the file is
there, it is off; a file that cannot be read says off too.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pwd
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agent import durable
from agent.errors import FolderError
from analytics.errors import UNREADABLE
from analytics.wire import LocalOff

log: Final = logging.getLogger("pathgrade.agent.switch")

MAX_FILE: Final = 4_096
LOOK_S: Final = 0.5
"""A stat(2) each: two seconds are promised."""

_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # root may be who reads

Mark = tuple[int, int, int]


class Switch(NamedTuple):
    """One thing that a host can switch off."""

    name: str  # on the command line
    of: str  # in words
    file_name: str

    def read(self, data: Path) -> LocalOff | None:
        """Say whether it is switched off here; None = it is not."""
        try:
            with os.fdopen(os.open(data / self.file_name, _READ), "rb") as file:
                return msgspec.json.decode(file.read(MAX_FILE), type=LocalOff)
        except FileNotFoundError:
            return None
        except (OSError, *UNREADABLE) as error:
            why = error.strerror if isinstance(error, OSError) else "it is damaged"
            note = f"{self.file_name} cannot be read: {why}"[:200]
            return LocalOff(since_us=self._since_us(data), by="not known", note=note)

    def off(self, data: Path, off: LocalOff) -> LocalOff:
        """Switch off, durably; what is off already stays as it was. Raises ``FolderError``."""
        known = self.read(data)
        if known is not None:
            return known
        path = data / self.file_name
        self._in_folder(data, lambda: durable.replace(path, msgspec.json.encode(off)))
        return off

    def on(self, data: Path) -> LocalOff | None:
        """Switch on, durably; gives what was switched off. Raises ``FolderError``."""
        known = self.read(data)
        if known is not None:
            self._in_folder(data, lambda: durable.remove(data / self.file_name))
        return known

    def require_folder(self, data: Path) -> None:
        """Raise ``FolderError`` unless there is a folder: a slip in its name must not pass for a switch."""
        self._in_folder(data, lambda: _stat(data))

    def mark(self, data: Path) -> Mark | None:
        """Tell one state of the file from another; None = it is not there."""
        try:
            found = os.lstat(data / self.file_name)  # twice a second
        except FileNotFoundError:
            return None
        except OSError:
            return 0, 0, 0
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _since_us(self, data: Path) -> int:
        try:
            return (data / self.file_name).lstat().st_mtime_ns // 1_000
        except OSError:
            return 0

    def _in_folder(self, data: Path, act: Callable[[], None]) -> None:
        """Do something in the data folder; raises ``FolderError``."""
        try:
            act()
        except OSError as error:
            raise FolderError(
                f"switch {self.of} in {data}: {error.strerror}",
                remedy="run it as root, or as the agent's user\n"
                "name the agent's data folder with --data, or its configuration with --config",
            ) from error


MESH: Final = Switch("mesh", "active tests", "mesh-off.json")
PASSIVE: Final = Switch("passive", "passive capture", "passive-off.json")
SWITCHES: Final = (MESH, PASSIVE)

Heard = Callable[[Switch, LocalOff | None], None]


class Switches:
    """All of them, as an agent sees them for as long as it lives: sessions with a server come and go."""

    def __init__(self, data: Path) -> None:
        """Read them once."""
        self._data = data
        self._marks = {switch: switch.mark(data) for switch in SWITCHES}
        self.off = {switch: switch.read(data) for switch in SWITCHES}
        """Who switched it off, when and why; None where it is on."""
        self.tasks: dict[str, asyncio.Task[None]] = {}
        """What must run while they are watched."""
        self._listeners: list[Heard] = []

    @contextmanager
    def heard(self, listener: Heard) -> Iterator[None]:
        """Tell it of each change, until left."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    @asynccontextmanager
    async def watched(self, *, every_s: float = LOOK_S) -> AsyncIterator[None]:
        """Look at them again and again, until left."""
        watching = self.tasks["switch"] = asyncio.create_task(self._watch(every_s))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    def look(self) -> None:
        """Look once, and tell of what changed."""
        for switch in SWITCHES:
            mark = switch.mark(self._data)
            if mark != self._marks[switch]:
                self._marks[switch] = mark
                self._take(switch, switch.read(self._data))

    async def _watch(self, every_s: float) -> None:
        while True:
            self.look()
            await asyncio.sleep(every_s)

    def _take(self, switch: Switch, off: LocalOff | None) -> None:
        if off == self.off[switch]:
            return
        self.off[switch] = off
        why = "" if off is None else f" by={off.by!r} note={off.note!r}"
        log.warning("%s switched %s on this host%s", switch.of, "on" if off is None else "off", why)
        for listener in [*self._listeners]:
            listener(switch, off)


def who() -> str:
    """Name who runs this process, also behind sudo(8)."""
    if (before := os.environ.get("SUDO_USER")) and os.getuid() == 0:
        return before[:64]
    try:
        return pwd.getpwuid(os.getuid()).pw_name[:64]
    except KeyError:
        return f"uid {os.getuid()}"


def _stat(data: Path) -> None:
    if not stat.S_ISDIR(data.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
