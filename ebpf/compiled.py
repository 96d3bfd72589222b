"""Compiled programs on disk, and what tells whether they still fit.

A file is ``magic (8) | SHA-256 of the rest (32) | msgpack of Programs``. Programs fit where their key is that
of this kernel's BTF, these sources and this bcc: any difference, or a damaged file, means compiling again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from ebpf.errors import CacheError

FILE_NAME: Final = "session-programs.bin"

_MAGIC: Final = b"PGBPF\x00\x02\n"  # the number is the version of this format
_DIGEST_SIZE: Final = 32
_HERE: Final = Path(__file__).parent
_SOURCES: Final = ("compile.py", "layout.py", "events.py", "owners.py", "btf.py", "hooks.py")


class MapSpec(msgspec.Struct, frozen=True, array_like=True):
    """One map, as bpf(2) BPF_MAP_CREATE wants it."""

    name: str
    kind: int
    key_size: int
    value_size: int
    entries: int
    flags: int


class ProgramSpec(msgspec.Struct, frozen=True, array_like=True):
    """One program: its hook, instructions, and where in them the descriptor of which map belongs."""

    name: str
    hook_type: (
        int  # number in the kernel's BTF of the type that it attaches by; 0 = this kernel has no such hook
    )
    instructions: bytes
    map_references: tuple[tuple[int, int], ...]  # (byte offset of the instruction, index of the map)


class Programs(msgspec.Struct, frozen=True):
    """Everything that one compilation yields."""

    key: str
    maps: tuple[MapSpec, ...]
    programs: tuple[ProgramSpec, ...]


def key_of(*, btf_digest: bytes, bcc_version: str) -> str:
    """Name the combination of kernel, sources and compiler that programs fit."""
    parts = [btf_digest, _source_digest(), bcc_version.encode(), platform.machine().encode()]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def read(path: Path) -> Programs | None:
    """Read compiled programs; None where there are none, or they are damaged, foreign or too old."""
    try:
        with path.open("rb") as file:
            data = file.read() if _is_ours(os.fstat(file.fileno())) else b""
    except OSError:
        return None
    start = len(_MAGIC) + _DIGEST_SIZE
    magic, digest, body = data[: len(_MAGIC)], data[len(_MAGIC) : start], data[start:]
    if magic != _MAGIC or hashlib.sha256(body).digest() != digest:
        return None
    try:
        return msgspec.msgpack.decode(body, type=Programs)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def write(path: Path, programs: Programs) -> None:
    """Write compiled programs so that a reader sees all of them or none. Raises CacheError."""
    body = msgspec.msgpack.encode(programs)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with _cache_errors(path, "writing"):
        temporary.unlink(missing_ok=True)
        # Root may write into a folder that the agent's own user could change: never through a link.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(_MAGIC + hashlib.sha256(body).digest() + body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let agents that share a cache compile one after the other. Makes the folder. Raises CacheError."""
    with _cache_errors(folder, "locking"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _require_private(folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.fdopen(os.open(folder / f"{FILE_NAME}.lock", flags, 0o600), "r+b")
    with lock:
        # Bounded: whoever holds it is compiling, which has a time limit.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_ours(status: os.stat_result) -> bool:
    """Nobody else may have written it: what is in the cache runs in the kernel."""
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _require_private(folder: Path) -> None:
    if not _is_ours(folder.stat()):
        raise CacheError(
            f"using the cache of compiled eBPF programs {folder}: others may write there",
            remedy=f"chown root {folder} && chmod 700 {folder}, or set cache to another folder",
        )


@contextmanager
def _cache_errors(path: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"{doing} the cache of compiled eBPF programs {path}: {error.strerror}",
            remedy="set cache to a folder that this user can write",
        ) from error


def _source_digest() -> bytes:
    files = sorted(path for path in (_HERE / "programs").rglob("*") if path.suffix in {".c", ".h"})
    digest = hashlib.sha256()
    for path in (*files, *(_HERE / name for name in _SOURCES)):
        text = path.read_bytes()
        digest.update(f"{path.relative_to(_HERE)} {len(text)}\n".encode() + text)
    return digest.digest()
