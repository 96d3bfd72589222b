"""Mutations for the short run: deterministic, in plain Python. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

INTERESTING: Final = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\0\0\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"-1",
    b"1e999",
    b"9223372036854775808",
    b"null",
    b"[[[[[[[[",
    b'"',
    b"\xc3\x28",
    b"\xed\xa0\x80",
    "\u0661".encode(),
    b"%",
    b"[",
    b"]",
    b"::",
    b"\r\n",
)

Mutation = Callable[[random.Random, bytes], bytes]


def mutants(seeds: Sequence[bytes], count: int, *, draw: random.Random) -> Iterator[bytes]:
    """Make ``count`` inputs, each from one to four changes to one of the seeds, or from two of them."""
    pool = [*seeds, b""]
    for _ in range(count):
        data = draw.choice(pool)
        if draw.random() < 0.1:
            data = _spliced(draw, data, draw.choice(pool))
        for _ in range(draw.randint(1, 4)):
            data = draw.choice(_MUTATIONS)(draw, data)
        yield data


def _spliced(draw: random.Random, one: bytes, other: bytes) -> bytes:
    return one[: draw.randint(0, len(one))] + other[draw.randint(0, len(other)) :]


def _flip(draw: random.Random, data: bytes) -> bytes:
    if not data:
        return bytes([draw.randrange(256)])
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randint(0, len(data))]


def _removed(draw: random.Random, data: bytes) -> bytes:
    at = draw.randint(0, len(data))
    return data[:at] + data[at + draw.randint(1, 8) :]


def _put_in(draw: random.Random, data: bytes) -> bytes:
    at = draw.randint(0, len(data))
    return data[:at] + draw.choice(INTERESTING) + data[at:]


def _put_over(draw: random.Random, data: bytes) -> bytes:
    at, new = draw.randint(0, len(data)), draw.choice(INTERESTING)
    return data[:at] + new + data[at + len(new) :]


def _doubled(draw: random.Random, data: bytes) -> bytes:
    at = draw.randint(0, len(data))
    return data[:at] + data[at : at + draw.randint(1, 32)] * 2 + data[at:]


_MUTATIONS: Final[tuple[Mutation, ...]] = (
    _flip,
    _flip,
    _cut,
    _removed,
    _put_in,
    _put_over,
    _put_over,
    _doubled,
)
