"""Packets that answer traces to a service's port, read by scapy (agent/mesh/deep.py).

scapy raises whatever its fields raise: ``_read`` counts that as malformed. What must not be is a process that
hangs or grows, or a trace that cannot be told afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from scapy.layers.inet import ICMP, IP, TCP, UDP
from shaped import Taken, chosen, either

from agent.mesh.deep import Deep, Sent
from agent.mesh.treatment import PROTOCOLS, DeepOrder

ALLOWED = (Exception,)
SHORT_RUNS = 30
ORDER = DeepOrder(address="192.0.2.8", port=104, protocols=list(PROTOCOLS), rounds=1, max_ttl=2)
PORTS = {"tcp": 40_001, "icmp": 40_002, "udp": 40_003}


OUTER = bytes(IP(src="192.0.2.1") / ICMP(type=11))
QUOTED = bytes(IP(dst=ORDER.address) / UDP(sport=PORTS["udp"], dport=104))


class Broken(BaseException):
    """A trace that does not hold: never allowed."""


def target(data: bytes) -> object:
    return either(data, _packet, _behind)


def _packet(packet: bytes) -> None:
    deep = Deep(ORDER, PORTS)
    for number, (_, protocol, ttl) in enumerate(deep.plan(), 1):  # as probe() does, without making packets
        deep._sent[number] = Sent(protocol, ttl, 1_000 + number)
        deep._heard[protocol, ttl].sent += 1
    try:
        deep.take(packet, 2_000_000)
    finally:
        for trace in deep.traces():
            for hop in trace.hops:
                if hop.answered > hop.sent or (hop.address == "") != (hop.answered == 0):
                    raise Broken(trace)
        msgspec.json.encode(deep.traces())


def _behind(data: bytes) -> None:
    """The outer header is right: an ICMP error from a router, about one of our probes."""
    taken = Taken(data)
    number, kind, code = taken.number(1, 6), taken.one_of((3, 11)), taken.byte()
    _packet(
        OUTER[:20]
        + bytes([kind, code])
        + OUTER[22:]
        + QUOTED[:4]
        + bytes([0, number])
        + QUOTED[6:]
        + taken.rest()
    )


def seeds() -> Iterator[bytes]:
    yield chosen(0, bytes(IP(src="192.0.2.8") / TCP(sport=104, dport=40_001, ack=2, flags="SA")))
    yield chosen(0, bytes(IP(src="192.0.2.8") / ICMP(type=0, id=40_002, seq=1)))
    yield chosen(0, bytes(IP(src="192.0.2.8") / UDP(sport=104, dport=40_003)))
    quoted = IP(dst="192.0.2.8", id=1) / TCP(sport=40_001, dport=104, seq=1)
    yield chosen(0, bytes(IP(src="192.0.2.1") / ICMP(type=11) / quoted))
    yield chosen(1, b"\1\1\0" + bytes(100) + b"\x20\0\0\0\0\x08\1\1\0\0\x11\xff")
