"""What comes with a datagram and from a socket's error queue (agent/mesh/stamps.py): stamps, TTLs, ICMP.

The kernel frames it, so lengths are right; what routers quote is theirs.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from shaped import Taken

from agent.mesh import stamps
from agent.mesh.icmp import ExtensionError, labels_of
from agent.mesh.packet import quoted_raw
from agent.mesh.stamps import V4, V6, IcmpError, StampingTransport

ALLOWED = (ExtensionError,)
"""Who reads the labels counts it."""


def target(data: bytes) -> None:
    taken = Taken(data)
    family = taken.one_of((V4, V6))
    transport = StampingTransport.__new__(StampingTransport)
    transport._family = family
    transport._pending = {7: (0, lambda _sent_ns: None)}
    seen: list[IcmpError] = []
    transport.on_icmp = seen.append
    size = stamps._EXTENDED_ERROR.size
    extended = taken.bytes(size).ljust(size, b"\0")
    if taken.flag():
        extended += taken.some(28)
    stamp = taken.bytes(stamps._STAMP.size).ljust(48, b"\0")
    ancillary = [
        (socket.SOL_SOCKET, stamps.SO_TIMESTAMPING, stamp),
        (family.level, family.receive_errors, extended),
    ]
    quoted = taken.rest()
    transport._on_error_message(quoted, ancillary, None)
    transport._arrival(
        [(family.level, family.ttl, stamp[:4]), (family.level, family.traffic_class, stamp[4:5])]
    )
    for error in seen:
        quoted_raw(error.quoted)
        labels_of(error.quoted, error.extension_at, headers=28)


def seeds() -> Iterator[bytes]:
    # ee_errno ee_origin ee_type ee_code ee_pad ee_info ee_data: ICMP time exceeded, then an address
    icmp = (113).to_bytes(4, "little") + bytes([2, 11, 0, 0]) + bytes(8)
    yield (
        b"\0"
        + icmp
        + b"\1\x10"
        + b"\2\0\0\0"
        + bytes([192, 0, 2, 1])
        + bytes(8)
        + bytes(16)
        + b"\xc1\1"
        + bytes(40)
    )
    yield b"\1" + (113).to_bytes(4, "little") + bytes([3, 3, 0, 0]) + bytes(8) + b"\0" + bytes(60)
    yield b"\0" + bytes(4) + bytes([4, 0, 0, 0]) + bytes(4) + (7).to_bytes(4, "little") + b"\0" + bytes(60)
