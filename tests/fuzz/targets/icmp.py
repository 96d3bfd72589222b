"""What routers tell in ICMP errors: label stacks and quoted headers (agent/mesh/icmp.py)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address

from shaped import Taken, chosen, either

from agent.mesh.icmp import (
    MAX_LABELS,
    ExtensionError,
    QuotedDatagram,
    _inner,
    labels_of,
    mpls_labels,
    ones_complement,
    quoted_datagram,
    quoted_datagram6,
)

ALLOWED = (ExtensionError,)


def target(data: bytes) -> object:
    return either(data, _extension, _summed, _placed, _four, _six)


def _extension(data: bytes) -> None:
    for label in mpls_labels(data):
        assert 0 <= label.label < 2**20
        assert str(label).count("/") == 3


def _summed(data: bytes) -> None:
    """With a right version and checksum."""
    blank = b"\x20\0\0\0" + data
    total = ones_complement(blank) ^ 0xFFFF
    assert len(mpls_labels(b"\x20\0" + struct.pack("!H", total) + data)) <= MAX_LABELS


def _placed(data: bytes) -> None:
    taken = Taken(data)
    told_at = taken.number(0, 255) if taken.flag() else None
    labels_of(taken.rest(), told_at, headers=taken.one_of((0, 28, 48)))


def _four(data: bytes) -> None:
    _quoted(quoted_datagram("192.0.2.1", _inner(data)))


def _six(data: bytes) -> None:
    _quoted(quoted_datagram6("2001:db8::1", data))


def _quoted(found: QuotedDatagram) -> None:
    assert ip_address(found.destination)
    assert 0 <= found.destination_port < 65_536
    assert 0 <= found.traffic_class < 256


def seeds() -> Iterator[bytes]:
    stack = struct.pack("!HBBI", 8, 1, 1, 16_000 << 12 | 1 << 8 | 1)
    two = struct.pack("!HBBII", 12, 1, 1, 16_000 << 12 | 1, 17 << 12 | 1 << 8 | 9)
    yield chosen(0, b"\x20\0\0\0" + stack)
    yield chosen(1, two)
    yield chosen(2, b"\x80\1" + bytes(128) + b"\x20\0\0\0" + stack)
    outer = b"\x45" + bytes(19)
    inner = (
        b"\x45\x28\0\x1c\0\1\0\0\1\x11\0\0"
        + bytes([192, 0, 2, 7, 192, 0, 2, 8])
        + struct.pack("!HHHH", 5, 6, 8, 0)
    )
    yield chosen(3, outer + b"\x0b\0" + bytes(6) + inner)
    yield chosen(
        4, b"\3\0" + bytes(6) + b"\x62\x80\0\0\0\x08\x11\1" + bytes(32) + struct.pack("!HHHH", 5, 6, 8, 0)
    )
