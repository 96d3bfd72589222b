"""How long the network really took for each packet: captures at both its edges, put together. Pure.

::

    a ── near router ══ ... ══ far router ── b
           │ in: when it left a's host          │ out: when it reached b's host
           └────────── took (up) ───────────────┘

Both stamps are the kernel's, of one clock, and none of those that the tools use: whatever a host adds to its
own measurement is beyond the edges. What the emulator is set to does not matter; what it did does.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

UDP: Final = 17
ICMP: Final = 1
UDP_HEADER: Final = 8


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """A packet at an edge; ``outgoing`` = towards the host beyond the edge."""

    stamp_ns: int
    outgoing: bool
    packet: bytes  # from its IP header on


class Passed(NamedTuple):
    """A packet that went through."""

    entered_ns: int
    took_ns: int
    protocol: int
    data: bytes  # of UDP or ICMP; without the UDP header


class Ways(NamedTuple):
    """All that went through, in the order in which it entered."""

    up: list[Passed]  # from a to b
    down: list[Passed]


def ways(near: Sequence[Seen], far: Sequence[Seen]) -> Ways:
    """Put the captures of both edges together."""
    return Ways(up=_crossings(near, far), down=_crossings(far, near))


def _crossings(entry: Iterable[Seen], exit_: Iterable[Seen]) -> list[Passed]:
    left: dict[bytes, deque[int]] = defaultdict(deque)
    for seen in exit_:
        if seen.outgoing:
            left[_identity(seen.packet)].append(seen.stamp_ns)
    entered = sorted((seen for seen in entry if not seen.outgoing), key=lambda seen: seen.stamp_ns)
    return [
        _passed(seen, waiting.popleft()) for seen in entered if (waiting := left.get(_identity(seen.packet)))
    ]


def _identity(packet: bytes) -> bytes:
    """What nobody on the way changes: between whom, and what is carried.

    Not UDP's checksum, which the first device that must fills in.
    """
    begin = _header_bytes(packet)
    ports = packet[begin : begin + 4] if packet[9] == UDP else b""
    return packet[12:20] + ports + _data(packet)


def _passed(seen: Seen, left_ns: int) -> Passed:
    return Passed(seen.stamp_ns, left_ns - seen.stamp_ns, seen.packet[9], _data(seen.packet))


def _data(packet: bytes) -> bytes:
    return packet[_header_bytes(packet) + (UDP_HEADER if packet[9] == UDP else 0) :]


def _header_bytes(packet: bytes) -> int:
    return (packet[0] & 15) * 4
