"""A STUN responder (RFC 8489): tells an agent the address that its packets arrive from.

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-----------------------------+-----------------------------+
    |0 0|     message type            |     length without header   |
    +---+-----------------------------+-----------------------------+
    |                    magic cookie 0x2112A442                    |
    +---------------------------------------------------------------+
    |                    transaction id (96 bits)                   |
    +-------------------------------+-------------------------------+
    |   attribute type              |   length of its value         |
    +-------------------------------+-------------------------------+
    |   value, padded to 4 bytes ...

It answers Binding requests only, keeps nothing between packets, and never sends more than ``MAX_GROWTH``
bytes over what it got, so that a forged source address gains an attacker nothing worth having.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

MAGIC_COOKIE: Final = 0x2112A442
HEADER: Final = struct.Struct("!HHI12s")
ATTRIBUTE: Final = struct.Struct("!HH")

BINDING_REQUEST: Final = 0x0001
BINDING_SUCCESS: Final = 0x0101
BINDING_ERROR: Final = 0x0111

ERROR_CODE: Final = 0x0009
UNKNOWN_ATTRIBUTES: Final = 0x000A
XOR_MAPPED_ADDRESS: Final = 0x0020
SOFTWARE: Final = 0x8022
FINGERPRINT: Final = 0x8028

COMPREHENDED: Final = frozenset(
    {0x0001, 0x0006, 0x0008, 0x0009, 0x000A, 0x0014, 0x0015, 0x001C, 0x001D, 0x001E, 0x0020}
)
"""The comprehension-required attributes of RFC 8489 (section 18.3): known, though of no use in a Binding."""
FIRST_OPTIONAL: Final = 0x8000

FINGERPRINT_XOR: Final = 0x5354554E
FINGERPRINT_LENGTH: Final = 8
SOFTWARE_NAME: Final = b"pathgrade"
MAX_PACKET: Final = 548  # RFC 8489 section 6.1: a request larger than this is not from an agent of ours
MAX_GROWTH: Final = 56
"""Of a 420: 28 (error) + 8 (list) + 16 (software) + 8 (fingerprint) - 4 (the attribute it is about)."""


class NotStunError(ValueError):
    """A packet that is not answered: not STUN, malformed, or nothing that wants an answer."""


@dataclass(slots=True)
class Counters:
    """What a responder has seen."""

    answered: int = 0
    refused: int = 0  # answered with 420
    dropped: int = 0  # not STUN, malformed, not a request


def respond(packet: bytes, source: tuple[str, int]) -> tuple[bytes, bool]:
    """Answer a packet from ``source``: the reply, and whether it is a success.

    Raises ``NotStunError`` for what gets no answer.
    """
    transaction, attributes = parse_request(packet)
    unknown = [kind for kind in attributes if kind < FIRST_OPTIONAL and kind not in COMPREHENDED]
    if unknown:
        return _message(BINDING_ERROR, transaction, _refusal(unknown)), False
    mapped = _attribute(XOR_MAPPED_ADDRESS, xor_address(source, transaction))
    return _message(BINDING_SUCCESS, transaction, mapped), True


def parse_request(packet: bytes) -> tuple[bytes, list[int]]:
    """Take a Binding request apart: its transaction id and its attributes' types. Raises ``NotStunError``."""
    if not HEADER.size <= len(packet) <= MAX_PACKET or len(packet) % 4:
        raise NotStunError("length")
    kind, length, cookie, transaction = HEADER.unpack_from(packet)
    if cookie != MAGIC_COOKIE or length != len(packet) - HEADER.size:
        raise NotStunError("header")
    if kind != BINDING_REQUEST:
        raise NotStunError("not a Binding request")
    return transaction, _attribute_types(packet)


def xor_address(source: tuple[str, int], transaction: bytes) -> bytes:
    """Encode an address as XOR-MAPPED-ADDRESS does (RFC 8489 section 14.2)."""
    address = _as_sent(ip_address(source[0].partition("%")[0]))
    mask = struct.pack("!I", MAGIC_COOKIE) + transaction
    hidden = bytes(byte ^ key for byte, key in zip(address.packed, mask, strict=False))
    family = 1 if address.version == 4 else 2
    return struct.pack("!BBH", 0, family, source[1] ^ (MAGIC_COOKIE >> 16)) + hidden


class Responder(asyncio.DatagramProtocol):
    """The responder on one UDP socket."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        """Keep the socket."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer, or count why not."""
        assert self._transport is not None
        try:
            reply, success = respond(data, addr)
        except NotStunError:
            self._counters.dropped += 1
            return
        self._transport.sendto(reply, addr)
        self._counters.answered += success
        self._counters.refused += not success


def _as_sent(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """A socket for both families shows IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2)."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _attribute_types(packet: bytes) -> list[int]:
    types: list[int] = []
    at = HEADER.size
    while at < len(packet):
        kind, length = ATTRIBUTE.unpack_from(packet, at)
        end = at + ATTRIBUTE.size + length
        if end > len(packet):
            raise NotStunError("an attribute runs past the end")
        if kind == FINGERPRINT:
            _check_fingerprint(packet, at, length)
        types.append(kind)
        at = end + -length % 4
    return types


def _check_fingerprint(packet: bytes, at: int, length: int) -> None:
    """RFC 8489 section 14.7: the last attribute, over all before it."""
    if length != 4 or at + FINGERPRINT_LENGTH != len(packet):
        raise NotStunError("FINGERPRINT is not last")
    (seen,) = struct.unpack_from("!I", packet, at + ATTRIBUTE.size)
    if seen != zlib.crc32(packet[:at]) ^ FINGERPRINT_XOR:
        raise NotStunError("FINGERPRINT does not match")


def _refusal(unknown: list[int]) -> bytes:
    code = _attribute(ERROR_CODE, struct.pack("!HBB", 0, 4, 20) + b"Unknown Attribute")
    return code + _attribute(UNKNOWN_ATTRIBUTES, struct.pack(f"!{len(unknown)}H", *unknown))


def _message(kind: int, transaction: bytes, attributes: bytes) -> bytes:
    body = attributes + _attribute(SOFTWARE, SOFTWARE_NAME)
    head = HEADER.pack(kind, len(body) + FINGERPRINT_LENGTH, MAGIC_COOKIE, transaction)
    checksum = zlib.crc32(head + body) ^ FINGERPRINT_XOR
    return head + body + _attribute(FINGERPRINT, struct.pack("!I", checksum))


def _attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(kind, len(value)) + value + bytes(-len(value) % 4)
