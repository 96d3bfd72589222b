"""A power cut, simulated: of everything written, only what was synced is left.

While ``Disk.recording`` lasts, every ``fsync`` and ``fdatasync`` of this process is seen, and what POSIX then
promises is noted: of a file its bytes, of a folder its names. Nothing else is taken for durable, so a rename
whose folder is not synced did not happen, and a file that was renamed but never synced is empty. Before each
of these calls takes effect is a moment at which the power may go; ``Cut.restore`` lays out what is there
afterwards.

What DuckDB writes by itself is not seen, so ``state.duckdb`` is always lost: it is disposable.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Names = Mapping[str, int]  # in a folder: name -> inode
_SYNCS: Final = ("fsync", "fdatasync")


@dataclass(frozen=True, slots=True)
class Cut:
    """What is durable at one moment, and how much was acknowledged by then."""

    doing: str  # the file or folder that was about to be synced, relative to the disk
    during: str  # what the program says it was at
    acknowledged: int
    root: int
    folders: Mapping[int, Names]
    files: Mapping[int, bytes]

    def restore(self, target: Path) -> None:
        """Lay out a folder as the disk would have it after the power is back."""
        self._restore(self.root, target)

    def _restore(self, folder: int, target: Path) -> None:
        target.mkdir(parents=True)
        for name, inode in self.folders.get(folder, {}).items():
            if inode in self.folders:
                self._restore(inode, target / name)
            elif inode in self.files:
                (target / name).write_bytes(self.files[inode])
            else:
                (target / name).touch()  # named, and its content never synced


class Disk:
    """What of a folder is durable."""

    def __init__(self, root: Path, acknowledged: Callable[[], int]) -> None:
        """``acknowledged`` tells how many promises were given so far."""
        self.cuts: list[Cut] = []
        self.during = ""
        """What is going on now, for the cuts to come."""
        self._root = root
        self._acknowledged = acknowledged
        self._folders: dict[int, Names] = {root.stat().st_ino: {}}
        self._files: dict[int, bytes] = {}
        self._kept: list[int] = []  # descriptors: so long, no inode is given to another file
        self._lock = threading.Lock()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """See all syncs of this process."""
        real = {name: getattr(os, name) for name in _SYNCS}
        for name, call in real.items():
            setattr(os, name, self._seen(call))
        try:
            yield
        finally:
            for name, call in real.items():
                setattr(os, name, call)
            for descriptor in self._kept:
                os.close(descriptor)

    def _seen(self, call: Callable[[int], None]) -> Callable[[int], None]:
        def sync(descriptor: int) -> None:
            with self._lock:
                path = Path(f"/proc/self/fd/{descriptor}").readlink()
                if not path.is_relative_to(self._root):
                    return call(descriptor)
                self._note_cut(str(path.relative_to(self._root)))
                call(descriptor)
                self._note_durable(descriptor, path)

        return sync

    def _note_cut(self, doing: str) -> None:
        root = self._root.stat().st_ino
        folders, files = dict(self._folders), dict(self._files)
        self.cuts.append(Cut(doing, self.during, self._acknowledged(), root, folders, files))

    def _note_durable(self, descriptor: int, path: Path) -> None:
        found = os.fstat(descriptor)
        if found.st_ino not in self._files and found.st_ino not in self._folders:
            self._kept.append(os.dup(descriptor))
        if stat.S_ISDIR(found.st_mode):
            entries = {entry.name: entry for entry in os.scandir(path)}
            self._folders[found.st_ino] = {name: entry.inode() for name, entry in entries.items()}
            for entry in entries.values():
                if entry.is_dir():
                    self._folders.setdefault(entry.inode(), {})
        else:
            self._files[found.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()
