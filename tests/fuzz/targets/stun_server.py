"""Datagrams to the STUN responder (server/stun.py). No answer is longer than it may be."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from shaped import Taken, chosen, either

from server.stun import (
    FINGERPRINT_XOR,
    MAGIC_COOKIE,
    MAX_GROWTH,
    MAX_PACKET,
    Doors,
    NotStunError,
    doors_from,
    respond,
)

ALLOWED = (NotStunError,)
SOURCES = (("192.0.2.7", 40_000), ("2001:db8::7", 1), ("::ffff:192.0.2.7", 65_535))
FOUR = [("192.0.2.1", 3478), ("192.0.2.1", 3479), ("192.0.2.2", 3478), ("192.0.2.2", 3479)]
SIX = [("2001:db8::1", 3478), ("2001:db8::1", 3479)]
DOORS: tuple[Doors | None, ...] = (None, doors_from(FOUR[0], FOUR), doors_from(SIX[0], SIX), Doors(FOUR[0]))


def target(data: bytes) -> object:
    return either(data, _answered, _request)


def _answered(data: bytes) -> None:
    taken = Taken(data)
    doors, source = taken.one_of(DOORS), taken.one_of(SOURCES)
    packet = taken.rest()
    answer = respond(packet, source, doors)
    assert len(packet) <= MAX_PACKET
    assert len(answer.reply) <= len(packet) + MAX_GROWTH, "an answer that is worth forging an address for"
    assert 0 < answer.port < 65_536


def _request(data: bytes) -> None:
    """A header, lengths and, where asked for, a fingerprint that are right."""
    taken = Taken(data)
    head = taken.bytes(2)
    signed = taken.flag()
    attributes = b""
    while value := taken.some(24):
        kind = int.from_bytes(value[:2], "big")
        body = value[2:]
        attributes += struct.pack("!HH", kind, len(body)) + body + bytes(-len(body) % 4)
    length = len(attributes) + 8 * signed
    packet = struct.pack("!HHI12s", 1, length, MAGIC_COOKIE, taken.bytes(12)) + attributes
    if signed:
        packet += struct.pack("!HHI", 0x8028, 4, zlib.crc32(packet) ^ FINGERPRINT_XOR)
    _answered(head + packet)


def seeds() -> Iterator[bytes]:
    plain = struct.pack("!HHI12s", 1, 0, MAGIC_COOKIE, b"transaction1")
    change = struct.pack("!HHI12s", 1, 8, MAGIC_COOKIE, b"transaction2") + struct.pack("!HHI", 3, 4, 6)
    port = struct.pack("!HHI12s", 1, 8, MAGIC_COOKIE, b"transaction3") + struct.pack(
        "!HHHH", 0x27, 4, 5000, 0
    )
    for packet in (plain, change, port):
        yield chosen(0, b"\1\0" + packet)
        yield chosen(0, b"\2\1" + packet)
    yield chosen(1, b"\1\0\1\x06\0\3\0\0\0\6\x06\0\x27\x13\x88\0\0")
