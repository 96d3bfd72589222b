r"""The spool: what was acknowledged and is not yet in Parquet. One file a segment, written in one direction.

::

    segment   magic "PGSPOOL\n" (8)  version u32  reserved u32            then frames
    frame     magic "PGFZ" (4)  length u32  CRC-32 u32                    of the payload that follows
    payload   body, an LZ4 block  tenant  received_us u64  tenant length u16  body length u32

Little-endian throughout. A body is the batch as the agent packed it (``analytics/batch.py``), mostly zeros:
compressed it is a quarter, which costs less than its way to the disk would. It comes first so that it can be
packed, and its CRC begun, before the rest is known. Segments of version 1 have frames "PGFR", whose payload
is received_us u64, tenant length u16, tenant, body as it is; they are read still.

A crash in the middle of a write leaves
a torn tail, which nobody was told was kept: it is cut when the segment is next read. Damage elsewhere is
stepped over by looking for the next frame that is whole.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pyarrow as pa

from analytics.errors import StoreError
from analytics.store.files import sync_folder

SEGMENT_MAGIC: Final = b"PGSPOOL\n"
SEGMENT_VERSION: Final = 2
OLDEST_VERSION: Final = 1
FRAME_MAGIC: Final = b"PGFZ"
PLAIN_MAGIC: Final = b"PGFR"
SUFFIX: Final = ".spool"
_PARTS_MOST: Final = 1_024
"""Buffers in one call (IOV_MAX of Linux)."""

_HEADER: Final = struct.Struct("<8sII")
_FRAME: Final = struct.Struct("<4sII")
_PLAIN: Final = struct.Struct("<QH")
_TRAILER: Final = struct.Struct("<QHI")
_ALL_MAGIC: Final = FRAME_MAGIC[:3]
_LZ4: Final = pa.Codec("lz4_raw")


@dataclass(frozen=True, slots=True)
class Frame:
    """One acknowledged batch."""

    received_us: int
    tenant: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Packed:
    """A body ready for the spool, made in any thread: what takes time is done."""

    block: bytes
    crc: int
    body_bytes: int

    def __len__(self) -> int:
        """Bytes of the body."""
        return self.body_bytes


@dataclass(frozen=True, slots=True)
class SegmentContent:
    """A segment as read back."""

    frames: list[Frame] = field(default_factory=list)
    whole_bytes: int = 0  # up to here the file is good
    torn_bytes: int = 0  # cut off the end: never acknowledged
    damaged_bytes: int = 0  # stepped over in the middle: a fault of the disk


def encode_frame(frame: Frame) -> bytes:
    """Lay out one frame."""
    return b"".join(frame_parts(frame.received_us, frame.tenant, pack_body(frame.body)))


def pack_body(body: bytes) -> Packed:
    """Compress a body and begin its CRC."""
    block = _LZ4.compress(body).to_pybytes()  # a memoryview of the buffer itself would be too long
    return Packed(block, zlib.crc32(block), len(body))


def frame_parts(received_us: int, tenant: str, packed: Packed) -> tuple[bytes, bytes, bytes]:
    """Lay out one frame in parts, to be written one after the other: the body is not copied."""
    name = tenant.encode()
    told = name + _TRAILER.pack(received_us, len(name), packed.body_bytes)
    head = _FRAME.pack(FRAME_MAGIC, len(packed.block) + len(told), zlib.crc32(told, packed.crc))
    return head, packed.block, told


def decode_segment(data: bytes, name: str = "segment") -> SegmentContent:
    """Read all whole frames. Raises ``StoreError`` for a file of another kind or a newer version."""
    if len(data) < _HEADER.size:
        return SegmentContent(torn_bytes=len(data))
    magic, version, _ = _HEADER.unpack_from(data)
    if magic != SEGMENT_MAGIC or not OLDEST_VERSION <= version <= SEGMENT_VERSION:
        raise StoreError(
            f"{name} is not a spool segment of version {OLDEST_VERSION} to {SEGMENT_VERSION}",
            remedy="start the version of the server that wrote it once, so that it seals the spool",
        )
    return _decode_frames(data)


def _decode_frames(data: bytes) -> SegmentContent:
    frames: list[Frame] = []
    whole, damaged = _HEADER.size, 0
    at: int | None = whole
    while at is not None and at < len(data):
        frame, after = _frame_at(data, at)
        if frame is None:
            at = _next_whole(data, at + 1)
            continue
        damaged += at - whole
        frames.append(frame)
        at = whole = after
    return SegmentContent(frames, whole, len(data) - whole, damaged)


def _frame_at(data: bytes, at: int) -> tuple[Frame | None, int]:
    """Read the frame that begins at ``at``; None if there is no whole one."""
    if at + _FRAME.size > len(data):
        return None, at
    magic, length, crc = _FRAME.unpack_from(data, at)
    payload = data[at + _FRAME.size : at + _FRAME.size + length]
    if magic not in _FRAME_OF or len(payload) != length or zlib.crc32(payload) != crc:
        return None, at
    if length < _LEAST:  # zeros behind a magic: the CRC-32 of nothing is 0
        return None, at
    try:
        return _FRAME_OF[magic](payload), at + _FRAME.size + length
    except (ValueError, OSError, struct.error):  # a CRC keeps out chance, not who writes to this disk
        return None, at


def _packed_frame(payload: bytes) -> Frame:
    """Read a payload whose CRC was right. Raises what its parts raise where it is none of ours."""
    tenant_end = len(payload) - _TRAILER.size
    received_us, tenant_length, body_bytes = _TRAILER.unpack_from(payload, tenant_end)
    body_end = tenant_end - tenant_length
    if body_end < 0 or body_bytes > _MOST_BODY:
        raise ValueError("no frame of ours")
    body = _LZ4.decompress(payload[:body_end], body_bytes, asbytes=True)
    return Frame(received_us, payload[body_end:tenant_end].decode(), body)


def _plain_frame(payload: bytes) -> Frame:
    received_us, tenant_length = _PLAIN.unpack_from(payload)
    body_at = _PLAIN.size + tenant_length
    return Frame(received_us, payload[_PLAIN.size : body_at].decode(), payload[body_at:])


_FRAME_OF: Final[Mapping[bytes, Callable[[bytes], Frame]]] = MappingProxyType(
    {FRAME_MAGIC: _packed_frame, PLAIN_MAGIC: _plain_frame}
)
_MOST_BODY: Final = 64 * 2**20
"""Bytes of a body: twice what the server takes in."""
_LEAST: Final = min(_PLAIN.size, _TRAILER.size)
"""No payload is shorter."""


def _next_whole(data: bytes, start: int) -> int | None:
    """Find the next place that holds a whole frame."""
    at = data.find(_ALL_MAGIC, start)
    while at != -1:
        if _frame_at(data, at)[0] is not None:
            return at
        at = data.find(_ALL_MAGIC, at + 1)
    return None


def segment_path(folder: Path, number: int) -> Path:
    """Name a segment; the number only grows, so that names sort by age."""
    return folder / f"{number:010d}{SUFFIX}"


def recover_segment(path: Path) -> SegmentContent:
    """Read a segment that an earlier process left, and cut its torn tail."""
    content = decode_segment(path.read_bytes(), str(path))
    if content.torn_bytes:
        with path.open("r+b") as file:
            file.truncate(content.whole_bytes)
            os.fsync(file.fileno())
    return content


class Segment:
    """The segment being written. One writer; not thread-safe."""

    def __init__(self, folder: Path, number: int) -> None:
        """Create the file, durably. Raises ``OSError``."""
        self.number = number
        self.path = segment_path(folder, number)
        self.broken = False
        """The disk failed in a way that leaves the file's content unknown: write to another segment."""
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._size = 0
        try:
            self.append([_HEADER.pack(SEGMENT_MAGIC, SEGMENT_VERSION, 0)])
            sync_folder(folder)
        except OSError:
            self.close()
            self.path.unlink(missing_ok=True)
            raise

    def append(self, parts: Sequence[bytes]) -> None:
        """Write frames and wait until they are on the disk: all of them, or (``OSError``) none."""
        try:
            _write_all(self._fd, parts)
            os.fdatasync(self._fd)
        except OSError:
            self._cut()
            raise
        self._size += sum(map(len, parts))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _cut(self) -> None:
        """Take a failed write off again, so that its frames are not read back as if acknowledged."""
        self.broken = True
        with suppress(OSError):
            os.ftruncate(self._fd, self._size)
            os.lseek(self._fd, self._size, os.SEEK_SET)
            os.fdatasync(self._fd)
            self.broken = False


def _write_all(fd: int, parts: Sequence[bytes]) -> None:
    for first in range(0, len(parts), _PARTS_MOST):
        views = [memoryview(part) for part in parts[first : first + _PARTS_MOST]]
        while views:
            views = _beyond(views, os.writev(fd, views))


def _beyond(views: list[memoryview], written: int) -> list[memoryview]:
    """What is still to be written."""
    for at, view in enumerate(views):
        if written < len(view):
            return [view[written:], *views[at + 1 :]]
        written -= len(view)
    return []
