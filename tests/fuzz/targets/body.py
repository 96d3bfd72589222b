"""Bodies of batches under a Content-Encoding: cut short, followed by something else, or made to burst."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from shaped import Taken, chosen, either

from server.errors import BodyError
from server.ingest import MAX_EXPANDED, expand

ALLOWED = (BodyError,)
SHORT_RUNS = 100


def target(data: bytes) -> object:
    return either(
        data, _expanded, _zipped, _bomb, lambda body: expand(body[1:], "gzip" if body[:1] == b"g" else "br")
    )


def _expanded(data: bytes) -> None:
    assert len(expand(data, "gzip")) <= MAX_EXPANDED


def _zipped(data: bytes) -> None:
    """Gzip's own header and trailer are right, but for what the fuzzer cuts off or adds."""
    taken = Taken(data)
    cut, added = taken.number(0, 8), taken.some(4)
    body = taken.rest()
    packed = zlib.compress(body, level=1, wbits=31)
    sent = packed[: len(packed) - cut] + added
    assert expand(sent, "gzip") == body or sent != packed


def _bomb(data: bytes) -> None:
    """Many members, or one that repeats; never more than the ceiling comes out."""
    taken = Taken(data)
    body = taken.some(64) * taken.number(1, 2_000)
    _expanded(zlib.compress(body, level=taken.number(0, 9), wbits=31) * taken.number(1, 3))


def seeds() -> Iterator[bytes]:
    packed = zlib.compress(b"a batch" * 10, wbits=31)
    yield chosen(0, packed)
    yield chosen(0, packed + packed)
    yield chosen(1, b"\0\0" + b"a batch" * 10)
    yield chosen(2, b"\x20" + b"\0" * 32 + b"\xff" * 8 + b"\x09\x01")
    yield chosen(3, b"gx")
