"""A STUN responder (RFC 8489): tells an agent the address that its packets arrive from.

On two ports, or two addresses with two ports each, it also lets the agent find out what its NAT does (RFC
5780): it answers from another of its doors where asked (CHANGE-REQUEST), or to another port of the asker
(RESPONSE-PORT).

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
import functools
import socket
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, NamedTuple

MAGIC_COOKIE: Final = 0x2112A442
HEADER: Final = struct.Struct("!HHI12s")
ATTRIBUTE: Final = struct.Struct("!HH")

BINDING_REQUEST: Final = 0x0001
BINDING_SUCCESS: Final = 0x0101
BINDING_ERROR: Final = 0x0111

CHANGE_REQUEST: Final = 0x0003
ERROR_CODE: Final = 0x0009
UNKNOWN_ATTRIBUTES: Final = 0x000A
XOR_MAPPED_ADDRESS: Final = 0x0020
RESPONSE_PORT: Final = 0x0027
SOFTWARE: Final = 0x8022
FINGERPRINT: Final = 0x8028
RESPONSE_ORIGIN: Final = 0x802B
OTHER_ADDRESS: Final = 0x802C

CHANGE_ADDRESS_FLAG: Final = 0x04
CHANGE_PORT_FLAG: Final = 0x02

COMPREHENDED: Final = frozenset(
    {0x0001, 0x0006, 0x0008, 0x0009, 0x000A, 0x0014, 0x0015, 0x001C, 0x001D, 0x001E, 0x0020, RESPONSE_PORT}
)
"""The comprehension-required attributes of RFC 8489 (section 18.3): known, though of no use in a Binding.
CHANGE-REQUEST is known only where there is another door."""
FIRST_OPTIONAL: Final = 0x8000

FINGERPRINT_XOR: Final = 0x5354554E
FINGERPRINT_LENGTH: Final = 8
SOFTWARE_NAME: Final = b"pathgrade"
MAX_PACKET: Final = 548  # RFC 8489 section 6.1: a request larger than this is not from an agent of ours
MAX_GROWTH: Final = 96
"""Of an answer over IPv6: 24 (mapped) + 24 (origin) + 24 (other) + 16 (software) + 8 (fingerprint). Over IPv4
it is 60, and 56 of a 420: 28 (error) + 8 (list) + 16 + 8 - 4 (the attribute it is about)."""

Endpoint = tuple[str, int]

ANY_HOSTS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared with, not bound
MOST_ASKERS: Final = 1024  # whose way back is remembered


class Change(NamedTuple):
    """From which other door an answer is asked for."""

    address: bool = False
    port: bool = False


HERE: Final = Change()


@dataclass(frozen=True, slots=True)
class Doors:
    """Where this responder answers, seen from the door that a request came in by."""

    here: Endpoint
    others: Mapping[Change, Endpoint] = field(default_factory=dict)

    @property
    def other(self) -> Endpoint | None:
        """OTHER-ADDRESS: of another address if there is one (RFC 5780 section 7.4), else the other port."""
        return self.others.get(Change(address=True, port=True)) or self.others.get(Change(port=True))

    def at(self, host: str) -> Doors:
        """The same for doors that are open on every address of the host, reached at ``host``."""
        return Doors(
            (host, self.here[1]), {change: (host, port) for change, (_, port) in self.others.items()}
        )


def doors_from(here: Endpoint, everywhere: Iterable[Endpoint]) -> Doors:
    """Sort the other doors by what differs; of several alike, the first."""
    others: dict[Change, Endpoint] = {}
    for door in everywhere:
        if door != here and (":" in door[0]) == (":" in here[0]):
            others.setdefault(Change(door[0] != here[0], door[1] != here[1]), door)
    return Doors(here, others)


class NotStunError(ValueError):
    """A packet that is not answered: not STUN, malformed, or nothing that wants an answer."""


@dataclass(slots=True)
class Counters:
    """What a responder has seen."""

    answered: int = 0
    refused: int = 0  # answered with 420
    dropped: int = 0  # not STUN, malformed, not a request


class Answer(NamedTuple):
    """What to send, from which door, to which port of the asker."""

    reply: bytes
    success: bool
    change: Change
    port: int


def respond(packet: bytes, source: tuple[str, int], doors: Doors | None = None) -> Answer:
    """Answer a packet from ``source``.

    Raises ``NotStunError`` for what gets no answer.
    """
    transaction, attributes = parse_request(packet)
    change = _change(attributes)
    known = COMPREHENDED | {CHANGE_REQUEST} if _served(change, doors) else COMPREHENDED
    unknown = [kind for kind in attributes if kind < FIRST_OPTIONAL and kind not in known]
    if unknown:
        return Answer(_message(BINDING_ERROR, transaction, _refusal(unknown)), False, HERE, source[1])
    body = _attribute(XOR_MAPPED_ADDRESS, xor_address(source, transaction))
    if doors is not None:
        body += _whereabouts(doors, change)
    return Answer(
        _message(BINDING_SUCCESS, transaction, body), True, change, _response_port(attributes) or source[1]
    )


def parse_request(packet: bytes) -> tuple[bytes, dict[int, bytes]]:
    """Take a Binding request apart: its transaction id and its attributes. Raises ``NotStunError``."""
    if not HEADER.size <= len(packet) <= MAX_PACKET or len(packet) % 4:
        raise NotStunError("length")
    kind, length, cookie, transaction = HEADER.unpack_from(packet)
    if cookie != MAGIC_COOKIE or length != len(packet) - HEADER.size:
        raise NotStunError("header")
    if kind != BINDING_REQUEST:
        raise NotStunError("not a Binding request")
    return transaction, _attributes(packet)


def _change(attributes: Mapping[int, bytes]) -> Change:
    value = attributes.get(CHANGE_REQUEST, bytes(4))
    if len(value) != 4:
        raise NotStunError("CHANGE-REQUEST")
    flags = value[3]
    return Change(bool(flags & CHANGE_ADDRESS_FLAG), bool(flags & CHANGE_PORT_FLAG))


def _served(change: Change, doors: Doors | None) -> bool:
    return doors is not None and (change in doors.others or (change == HERE and bool(doors.others)))


def _response_port(attributes: Mapping[int, bytes]) -> int | None:
    """RFC 5780 section 7.5: a port, and two bytes of no meaning."""
    value = attributes.get(RESPONSE_PORT)
    if value is None:
        return None
    port = int.from_bytes(value[:2], "big")
    if len(value) not in (2, 4) or port == 0:
        raise NotStunError("RESPONSE-PORT")
    return port


def _whereabouts(doors: Doors, change: Change) -> bytes:
    origin = _attribute(RESPONSE_ORIGIN, _address(doors.others.get(change, doors.here)))
    return origin + (_attribute(OTHER_ADDRESS, _address(doors.other)) if doors.other else b"")


def _address(endpoint: Endpoint) -> bytes:
    address = ip_address(endpoint[0].partition("%")[0])
    return struct.pack("!BBH", 0, 1 if address.version == 4 else 2, endpoint[1]) + address.packed


def xor_address(source: tuple[str, int], transaction: bytes) -> bytes:
    """Encode an address as XOR-MAPPED-ADDRESS does (RFC 8489 section 14.2)."""
    address = _as_sent(ip_address(source[0].partition("%")[0]))
    mask = struct.pack("!I", MAGIC_COOKIE) + transaction
    hidden = bytes(byte ^ key for byte, key in zip(address.packed, mask, strict=False))
    family = 1 if address.version == 4 else 2
    return struct.pack("!BBH", 0, family, source[1] ^ (MAGIC_COOKIE >> 16)) + hidden


class Responder(asyncio.DatagramProtocol):
    """The responder on one UDP socket. Its other doors are opened after it: ``join`` tells it."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._doors: Doors | None = None
        self._ways: dict[Change, asyncio.DatagramTransport] = {}

    def connection_made(self, transport: Any) -> None:
        """Keep the socket."""
        self._ways[HERE] = transport

    def join(self, here: Endpoint, sockets: Mapping[Endpoint, asyncio.DatagramTransport]) -> None:
        """Take in the responder's other sockets, by the address each is bound to."""
        self._doors = doors_from(here, sockets)
        self._ways |= {change: sockets[door] for change, door in self._doors.others.items()}

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer, or count why not."""
        try:
            answer = respond(data, addr, self._doors_for(addr))
        except NotStunError:
            self._counters.dropped += 1
            return
        self._ways[answer.change].sendto(answer.reply, (addr[0], answer.port, *addr[2:]))
        self._counters.answered += answer.success
        self._counters.refused += not answer.success

    def _doors_for(self, source: tuple[Any, ...]) -> Doors | None:
        """The doors with addresses that ``source`` can use, also where they are open on all."""
        if self._doors is None or self._doors.here[0] not in ANY_HOSTS:
            return self._doors
        host = _own_address(source[0])
        return None if host is None else self._doors.at(host)


@functools.lru_cache(maxsize=MOST_ASKERS)
def _own_address(asker: str) -> str | None:
    """The address that a datagram to ``asker`` leaves from; None if there is no way to it."""
    family = socket.AF_INET6 if ":" in asker else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((asker, 9))  # sends nothing: only the route is looked up
        except OSError:
            return None
        host: str = probe.getsockname()[0]
    return str(_as_sent(ip_address(host.partition("%")[0])))


def _as_sent(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """A socket for both families shows IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2)."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _attributes(packet: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = HEADER.size
    while at < len(packet):
        kind, length = ATTRIBUTE.unpack_from(packet, at)
        end = at + ATTRIBUTE.size + length
        if end > len(packet):
            raise NotStunError("an attribute runs past the end")
        if kind == FINGERPRINT:
            _check_fingerprint(packet, at, length)
        found.setdefault(kind, packet[at + ATTRIBUTE.size : end])  # RFC 8489 section 14: the first counts
        at = end + -length % 4
    return found


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
