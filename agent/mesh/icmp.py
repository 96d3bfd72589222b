"""What a router tells in an ICMP error besides its address: label stacks, and the header of what it dropped.

The extension structure (RFC 4884) behind the quoted datagram, and the one object in it that matters here, the
MPLS label stack (RFC 4950)::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------+-----------------------+-------------------------------+
    |  2    |      reserved         |  checksum, 0 = none           |
    +-------+-----------------------+---------------+---------------+
    |  length of the object         |  class = 1    |  type = 1     |  then further objects
    +-------------------------------+-------+-+-----+---------------+
    |                label                  |  TC |S|      TTL      |  one word a label, the last with S
    +---------------------------------------+-----+-+---------------+

The quoted IP header is not among what the kernel hands to a UDP socket. ``QuotedHeaders`` reads it from a
raw ICMP socket, which takes CAP_NET_RAW to open; without one, nothing is known of it. Parsers are pure and
strict.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

VERSION: Final = 2
HEADER: Final = struct.Struct("!HH")
OBJECT: Final = struct.Struct("!HBB")
MPLS: Final = (1, 1)  # class and type (RFC 4950 section 3)
MAX_LABELS: Final = 16
MAX_EXTENSION: Final = 576  # RFC 4884 section 5.1: the whole message has no more

CLASSIC_QUOTE: Final = 128
"""Bytes of quoted datagram where an extension begins if no length says so (RFC 4884 section 5.4)."""

SOL_RAW: Final = 255  # bits/socket.h
ICMP_FILTER: Final = 1  # linux/icmp.h: a set bit keeps that type out
ICMP6_FILTER: Final = 1  # netinet/icmp6.h: likewise, eight words
TIME_EXCEEDED: Final = 11
TIME_EXCEEDED6: Final = 3
IP_HEADER: Final = 20
IP6_HEADER: Final = 40
UDP_HEADER: Final = 8
UDP: Final = 17
MAX_PACKET: Final = 2048
READ_BATCH: Final = 64


class ExtensionError(ValueError):
    """Bytes that are not an RFC 4884 extension structure, or not a quoted UDP datagram."""


@dataclass(frozen=True, slots=True)
class Label:
    """One entry of an MPLS label stack (RFC 3032 section 2.1) as the router received it."""

    label: int
    traffic_class: int
    bottom: bool
    ttl: int

    def __str__(self) -> str:
        return f"{self.label}/{self.traffic_class}/{int(self.bottom)}/{self.ttl}"


@dataclass(frozen=True, slots=True)
class QuotedDatagram:
    """The IP header of a UDP datagram that a router dropped, as that router received it."""

    router: str
    traffic_class: int
    destination: str
    destination_port: int
    payload: bytes


def labels_of(quoted: bytes, told_at: int | None, *, headers: int) -> tuple[Label, ...]:
    """Find the label stack in what follows the quoted datagram; empty if the router told of none.

    ``told_at`` is where the router says that the extension begins. Routers older than RFC 4884 do not say;
    theirs begins after 128 bytes, ``headers`` of which are not in ``quoted``, and counts only if its checksum
    is there and right. Raises ``ExtensionError``.
    """
    if told_at is not None:
        return mpls_labels(quoted[told_at:])
    classic = quoted[CLASSIC_QUOTE - headers :]
    if len(classic) < HEADER.size or HEADER.unpack_from(classic)[1] == 0:
        return ()
    try:
        return mpls_labels(classic)
    except ExtensionError:
        return ()  # just more of the datagram


def mpls_labels(extension: bytes) -> tuple[Label, ...]:
    """Read an extension structure; labels of its MPLS object, others are passed over.

    Raises ``ExtensionError`` if any of it does not hold.
    """
    _check_structure(extension)
    labels: tuple[Label, ...] = ()
    at = HEADER.size
    while at < len(extension):
        if len(extension) - at < OBJECT.size:
            raise ExtensionError(f"{len(extension) - at} bytes where an object begins")
        length, kind, subtype = OBJECT.unpack_from(extension, at)
        if length < OBJECT.size or length % 4 or at + length > len(extension):
            raise ExtensionError(f"an object of {length} bytes in {len(extension) - at}")
        if (kind, subtype) == MPLS:
            if labels:
                raise ExtensionError("two label stacks")
            labels = _stack(extension[at + OBJECT.size : at + length])
        at += length
    return labels


def _check_structure(extension: bytes) -> None:
    if not HEADER.size <= len(extension) <= MAX_EXTENSION:
        raise ExtensionError(f"an extension of {len(extension)} bytes")
    first, checksum = HEADER.unpack_from(extension)
    if first >> 12 != VERSION:
        raise ExtensionError(f"version {first >> 12}")
    if checksum and ones_complement(extension) != 0xFFFF:
        raise ExtensionError("the checksum does not fit")


def _stack(entries: bytes) -> tuple[Label, ...]:
    words = [word for (word,) in struct.iter_unpack("!I", entries)]
    labels = tuple(Label(word >> 12, word >> 9 & 7, bool(word >> 8 & 1), word & 0xFF) for word in words)
    if not 0 < len(labels) <= MAX_LABELS:
        raise ExtensionError(f"a stack of {len(labels)} labels")
    if [label.bottom for label in labels] != [False] * (len(labels) - 1) + [True]:
        raise ExtensionError("a stack whose last label is not marked so")
    return labels


def ones_complement(data: bytes) -> int:
    """Sum of 16-bit words (RFC 1071); 0xFFFF over data that holds its right checksum."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(word for (word,) in struct.iter_unpack("!H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def quoted_datagram(router: str, message: bytes) -> QuotedDatagram:
    """Read an ICMP time exceeded (RFC 792) about a UDP datagram. Raises ``ExtensionError``."""
    header = message[8:]
    if len(message) < 8 + IP_HEADER or message[0] != TIME_EXCEEDED:
        raise ExtensionError("not a time exceeded")
    size = (header[0] & 0xF) * 4
    if header[0] >> 4 != 4 or size < IP_HEADER or header[9] != UDP or len(header) < size + UDP_HEADER:
        raise ExtensionError("not about a UDP datagram")
    if int.from_bytes(header[6:8], "big") & 0x1FFF:
        raise ExtensionError("about a later fragment")
    return _quoted(router, header[1], socket.inet_ntop(socket.AF_INET, header[16:20]), header[size:])


def quoted_datagram6(router: str, message: bytes) -> QuotedDatagram:
    """Read an ICMPv6 time exceeded (RFC 4443) about a UDP datagram. Raises ``ExtensionError``."""
    header = message[8:]
    if len(header) < IP6_HEADER + UDP_HEADER or message[0] != TIME_EXCEEDED6:
        raise ExtensionError("not a time exceeded")
    if header[0] >> 4 != 6 or header[6] != UDP:
        raise ExtensionError("not about a UDP datagram")
    traffic_class = int.from_bytes(header[:2], "big") >> 4 & 0xFF
    destination = socket.inet_ntop(socket.AF_INET6, header[24:40])
    return _quoted(router, traffic_class, destination, header[IP6_HEADER:])


def _quoted(router: str, traffic_class: int, destination: str, datagram: bytes) -> QuotedDatagram:
    port = int.from_bytes(datagram[2:4], "big")
    return QuotedDatagram(router, traffic_class, destination, port, datagram[UDP_HEADER:])


class QuotedHeaders:
    """Raw ICMP sockets, opened while this process may, and who wants to know what comes in on them."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.malformed = 0
        self._sockets = sockets
        self._wanted: list[Callable[[QuotedDatagram], None]] = []

    @classmethod
    def open(cls) -> QuotedHeaders | None:
        """Open the sockets, which takes CAP_NET_RAW; None where the kernel refuses."""
        sockets: list[socket.socket] = []
        try:
            for family in (socket.AF_INET, socket.AF_INET6):
                sockets.append(_raw(family))
        except OSError:
            if not sockets:
                return None  # without IPv6, IPv4 alone
        return cls(sockets)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read from now on, in this loop."""
        for sock in self._sockets:
            loop.add_reader(sock.fileno(), self._on_readable, sock)

    def tell(self, wanted: Callable[[QuotedDatagram], None]) -> Callable[[], None]:
        """Call ``wanted`` with everything that comes, until the function that this returns is called."""
        self._wanted.append(wanted)
        return lambda: self._wanted.remove(wanted)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop reading and give the sockets back."""
        for sock in self._sockets:
            loop.remove_reader(sock.fileno())
            sock.close()

    def _on_readable(self, sock: socket.socket) -> None:
        for _ in range(READ_BATCH):
            try:
                packet, sender = sock.recvfrom(MAX_PACKET)
            except OSError:
                return
            self._on_packet(packet, sender[0], v6=sock.family == socket.AF_INET6)

    def _on_packet(self, packet: bytes, sender: str, *, v6: bool) -> None:
        try:
            # A raw IPv4 socket gives the outer header too.
            seen = quoted_datagram6(sender, packet) if v6 else quoted_datagram(sender, _inner(packet))
        except ExtensionError:
            self.malformed += 1
            return
        for wanted in tuple(self._wanted):
            wanted(seen)


def _inner(packet: bytes) -> bytes:
    return packet[(packet[0] & 0xF) * 4 :] if packet else b""


def _raw(family: socket.AddressFamily) -> socket.socket:
    if family == socket.AF_INET:
        sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("@I", 0xFFFFFFFF ^ 1 << TIME_EXCEEDED))
    else:
        sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        words = [0xFFFFFFFF ^ 1 << TIME_EXCEEDED6, *[0xFFFFFFFF] * 7]
        sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("@8I", *words))
    sock.setblocking(False)
    return sock
