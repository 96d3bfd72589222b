"""What several fuzz targets make their input from: fields taken off the front of the fuzzer's bytes.

The same idea as atheris.FuzzedDataProvider, in plain Python, so that the short run needs no atheris.
"""

from __future__ import annotations

import functools
import os
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_FOLDER = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))


class Taken:
    """Bytes that are used up from the front; when there are no more, everything is zero or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def bytes(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        self._at += count
        return found

    def byte(self) -> int:
        return int.from_bytes(self.bytes(1), "big")

    def number(self, low: int, high: int) -> int:
        """One byte where the range allows, else eight."""
        span = high - low + 1
        return low + (self.byte() if span <= 256 else int.from_bytes(self.bytes(8), "big")) % span

    def flag(self) -> bool:
        return bool(self.byte() & 1)

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.number(0, len(choices) - 1)]

    def some(self, most: int = 255) -> bytes:
        """A length and so many bytes."""
        return self.bytes(self.number(0, most))

    def text(self, most: int = 255) -> str:
        return self.some(most).decode("utf-8", "replace")

    def rest(self) -> bytes:
        return self.bytes(len(self._data))


@functools.cache
def _place(process: int, name: str) -> Path:
    return _FOLDER / f"pathgrade-fuzz-{process}-{name}"


@functools.cache
def _made(folder: Path, inner: str) -> str:
    """Name a file in a folder that is there: it is looked for once, not each time."""
    path = folder / inner
    path.parent.mkdir(parents=True, exist_ok=True)
    return str(path)


def file_of(data: bytes, name: str = "file") -> Path:
    """Put bytes into a file in memory, the same one each time; one a process."""
    path = _place(os.getpid(), name)
    _write(str(path), data)
    return path


def folder_of(files: dict[str, bytes], name: str = "folder") -> Path:
    """Put files into a folder in memory, the same one each time."""
    folder = _place(os.getpid(), name)
    _made(folder, "any")
    for path, data in files.items():
        _write(_made(folder, path), data)
    return folder


def _write(path: str, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(handle, data)
        os.ftruncate(handle, len(data))  # after, so that the file keeps its page
    finally:
        os.close(handle)


def clean_up() -> None:
    """Remove what this process put into memory."""
    for path in _FOLDER.glob(f"pathgrade-fuzz-{os.getpid()}-*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    _made.cache_clear()


def either(data: bytes, *ways: Callable[[bytes], object]) -> object:
    """Let the first byte choose who gets the rest."""
    return ways[data[0] % len(ways)](data[1:]) if data else None


def chosen(way: int, data: bytes) -> bytes:
    """What ``either`` hands to the way of this number."""
    return bytes([way]) + data


def counted(data: bytes) -> bytes:
    """What ``Taken.some`` takes."""
    return struct.pack("!B", len(data)) + data
