"""How much memory a container's processes may take, where its own systemd cannot say: this machine's cgroups.

A container whose cgroups are not its own boots, but its ``MemoryMax=`` counts nothing. A group (v1)
below that of this process does, and takes nothing from anybody: what counts for this process still counts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pack.errors import PackError

TREE: Final = Path("/sys/fs/cgroup/memory")
MB: Final = 1_000_000


class Group:
    """A group of processes whose memory is counted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, pid: int) -> None:
        """Count a process from now on, and all that it starts."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    @property
    def peak_bytes(self) -> int:
        """The most that it ever had, files in the page cache included."""
        return int((self._folder / "memory.max_usage_in_bytes").read_text())

    @property
    def killed(self) -> int:
        """How often the kernel ended a process of it, as there was no memory left."""
        told = (self._folder / "memory.oom_control").read_text().split()
        return int(told[told.index("oom_kill") + 1])


@contextlib.contextmanager
def limited(name: str, most_bytes: int) -> Iterator[Group]:
    """Make a group that may take so much; its processes are set free at the end. Raises ``PackError``."""
    own = _own()
    folder = own / f"pathgrade-{os.getpid()}-{name}"
    folder.mkdir()
    try:
        (folder / "memory.limit_in_bytes").write_text(str(most_bytes))
        yield Group(folder)
    finally:
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (own / "cgroup.procs").write_text(pid)
        folder.rmdir()


def _own() -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return TREE / path.lstrip("/")
    raise PackError("count memory: cgroup v1 has no tree of it here")
