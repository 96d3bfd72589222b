"""Segments of the spool, read back after a crash: torn, damaged, or with a right checksum over nonsense."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from shaped import Taken, chosen, counted, either

from analytics.errors import StoreError
from analytics.store.spool import Frame, decode_segment, encode_frame

ALLOWED = (StoreError,)
HEADER = b"PGSPOOL\n" + (2).to_bytes(4, "little") + bytes(4)


def target(data: bytes) -> object:
    return either(data, _file, _frames, _payloads)


def _file(data: bytes) -> None:
    content = decode_segment(data)
    assert content.whole_bytes + content.torn_bytes == len(data)


def _frames(data: bytes) -> None:
    """Behind a right header."""
    _file(HEADER + data)


def _payloads(data: bytes) -> None:
    """Each with a right length and checksum: only who writes to the disk can make these."""
    taken = Taken(data)
    segment = HEADER
    for _ in range(taken.number(1, 4)):
        magic = taken.one_of((b"PGFZ", b"PGFR"))
        payload = taken.some() if taken.flag() else taken.rest()
        segment += (
            magic + len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little") + payload
        )
    _file(segment)


def seeds() -> Iterator[bytes]:
    frames = [encode_frame(Frame(1_764_000_000_000_000, "default", body)) for body in (b"", b"batch" * 20)]
    yield chosen(0, HEADER + b"".join(frames))
    yield chosen(1, frames[0] + b"damage" + frames[1] + frames[0][:9])
    yield chosen(2, b"\1\0\1" + counted(frames[1][12:]) + b"\1\1" + counted(bytes(10) + b"tenant and body"))
