"""What crosses between two agents, recorded in the middle: measurement only, each packet by its rule."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final
from urllib.request import ProxyHandler, build_opener

import pytest

from agent import identity
from agent.mesh import ice
from agent.mesh.packet import MAX_CONTROL, PROBE_BYTES, RAW_BYTES, RawKind, decode_raw
from analytics.receipt_file import check
from tests.lab.capture import ICMP, TCP, UDP, Packet, capturing
from tests.lab.fleet import Fleet, fleet

pytestmark = pytest.mark.lab

NAME = f"w{os.getpid()}"
CANARY: Final = "synthetic-patient-Mueller^Anna-1970"
STUN_COOKIE = 0x2112A442
MAX_STUN = 200
RECORD_HEAD = 13  # RFC 6347 section 4.1
SEALING = (16, 24)  # what AEAD adds to a record: ChaCha20-Poly1305, and AES-GCM with its explicit nonce
HANDSHAKE_TYPES = {20, 21, 22}  # change cipher spec, alert, handshake
MAX_DATAGRAM = 1_500
QUOTED = 8  # ICMP quotes at least so much of the datagram it is about (RFC 792)
TIME_EXCEEDED, UNREACHABLE = 11, 3


@pytest.fixture(scope="module")
def recorded() -> Iterator[tuple[Fleet, list[Packet]]]:
    """All that passed the core's link to north, from before the agents started to the end of a whole test."""
    os.environ["RESTLESS_TRAINS"] = "1"
    os.environ["PATHGRADE_CANARY"] = CANARY  # what an agent that looked around could find
    try:
        with fleet(NAME) as made, capturing(made.lab.plan.namespace("core"), "to-1") as capture:
            made.start("east", "north")
            for pair in (("east", "north"), ("north", "east")):
                made.next_reading(*pair, after=0, good=made.is_healthy)
            yield made, capture.packets[:]
    finally:
        del os.environ["RESTLESS_TRAINS"], os.environ["PATHGRADE_CANARY"]


@pytest.fixture(scope="module")
def between(recorded: tuple[Fleet, list[Packet]]) -> list[Packet]:
    """What the two ends said to each other."""
    made, packets = recorded
    ends = {made.lab.plan.hosts[name].public_address for name in ("east", "north")}
    return [packet for packet in packets if packet.ends == ends]


def test_each_packet_is_of_a_known_kind_and_keeps_its_rule(between: list[Packet]) -> None:
    kinds = Counter(kind_of(packet) for packet in between)
    print(dict(kinds))  # noqa: T201  # for pytest -s
    assert kinds["stun"] > 2
    assert kinds["dtls handshake"] > 4
    assert kinds["probe"] >= 4 * 150  # requests and replies, both ways
    assert kinds["control"] > 8
    assert kinds["hop probe"] >= 2
    assert kinds["hop reply"] >= 2
    assert kinds["train"] >= 2 * 64


def test_nothing_of_the_hosts_is_readable_in_it(between: list[Packet]) -> None:
    whole = b"".join(packet.whole for packet in between)
    for word in (CANARY, "east", "north", "default", "pathgrade", "Bearer", "BEGIN", "/var/"):
        assert word.encode() not in whole, word


def test_all_else_is_with_the_server_and_carries_no_file(recorded: tuple[Fleet, list[Packet]]) -> None:
    made, packets = recorded
    north = made.lab.plan.hosts["north"].public_address
    known = {made.lab.plan.server_address, made.lab.plan.turn_address}
    strangers = {
        (packet.src, packet.dst, packet.protocol)
        for packet in packets
        if north in packet.ends
        and packet.protocol != ICMP
        and not packet.ends & known
        and packet.ends != {north, made.lab.plan.hosts["east"].public_address}
    }
    assert strangers == set()
    to_server = b"".join(packet.whole for packet in packets if packet.protocol == TCP)
    assert CANARY.encode() not in to_server


def test_both_ends_signed_what_they_measured(recorded: tuple[Fleet, list[Packet]]) -> None:
    """With the keys as they are on the two hosts; the server only carried it."""
    made, _ = recorded
    anchors = {name: frozenset({identity.read(made.data(name)).public_key}) for name in ("east", "north")}
    with build_opener(ProxyHandler({})).open(f"{made.reader.url}/v1/receipts", timeout=30) as answer:
        told = check(answer.read().splitlines(), anchors)
    print(told)  # noqa: T201  # for pytest -s
    assert (told.false, told.from_file) == ({}, [])
    assert {(path.src, path.dst) for path in told.paths if path.readings} == {
        ("east", "north"),
        ("north", "east"),
    }


# --- the rules ---------------------------------------------------------------------------------------------


def kind_of(packet: Packet) -> str:
    """Name a packet's kind; fails if it keeps no rule."""
    if packet.protocol == ICMP:
        return icmp(packet.payload)
    assert packet.protocol == UDP, f"protocol {packet.protocol}"
    data = packet.payload
    assert 0 < len(data) <= MAX_DATAGRAM
    if not any(data):
        assert len(data) == ice.OPENER_BYTES
        return "opener"
    rule = next((rule for first, rule in RULES.items() if data[0] in first), None)
    assert rule is not None, f"first byte {data[0]:#x}: {data[:40]!r}"
    return rule(data)


def stun(data: bytes) -> str:
    kind, length, cookie = struct.unpack_from("!HHI", data)
    assert kind < 0x4000
    assert cookie == STUN_COOKIE
    assert 20 + length == len(data) <= MAX_STUN
    return "stun"


def dtls(data: bytes) -> str:
    """One datagram of whole records; a record of a probe or of control has a size of theirs."""
    kinds = []
    while data:
        content, version, length = data[0], data[1:3], int.from_bytes(data[11:RECORD_HEAD], "big")
        assert version in (b"\xfe\xff", b"\xfe\xfd")
        assert len(data) >= RECORD_HEAD + length
        kinds.append(record(content, length))
        data = data[RECORD_HEAD + length :]
    assert len(set(kinds)) == 1
    return kinds[0]


def record(content: int, length: int) -> str:
    if content in HANDSHAKE_TYPES:
        return "dtls handshake"
    assert content == ice.DTLS_APPLICATION_DATA
    if length - PROBE_BYTES in SEALING:
        return "probe"
    assert length <= MAX_CONTROL + max(SEALING)
    return "control"


def raw(data: bytes) -> str:
    found = decode_raw(data)
    if found.kind is RawKind.TRAIN:
        assert (found.received_ns, found.sent_ns) == (0, 0)
    if found.kind is RawKind.HOP_PROBE:
        assert (found.received_ns, found.sent_ns) == (0, 0)
    assert not any(data[RAW_BYTES:]), "padding is zeroes"
    return KINDS[found.kind]


def icmp(data: bytes) -> str:
    """Routers' answers to hop probes: they quote no more than is quoted of a hop probe."""
    assert data[0] in (TIME_EXCEEDED, UNREACHABLE), f"ICMP type {data[0]}"
    quoted = data[8:]
    header = (quoted[0] & 15) * 4
    assert quoted[9] == UDP
    assert len(quoted) >= header + QUOTED
    return "icmp"


KINDS = {RawKind.HOP_PROBE: "hop probe", RawKind.HOP_REPLY: "hop reply", RawKind.TRAIN: "train"}
RULES: dict[range, Callable[[bytes], str]] = {
    range(4): stun,  # RFC 7983
    range(20, 64): dtls,
    range(min(RawKind), max(RawKind) + 1): raw,
}
