"""What a trace finds out about the way, against routers that are known to do it. One process, 30 s in all."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.mesh.fan import routes_of_flows
from agent.mesh.hops import MARK
from agent.mesh.icmp import QuotedHeaders, ones_complement
from agent.mesh.ledger import RouterLedger
from agent.mesh.pair import SystemClock
from agent.mesh.route import Route, fan_out
from agent.mesh.stamps import StampingLoop
from agent.mesh.trace import Known, Traced
from analytics.measurement import RouteChange
from analytics.wire import ProbePlan
from tests.lab import wayside
from tests.lab.wayside import B2, R1, R3, B, X, Y, converse

pytestmark = [
    pytest.mark.lab,
    pytest.mark.alone,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
]

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
QUOTED_END = Path(__file__).with_name("quoted_end.py")
QUICK = ProbePlan(probes=50, interval_us=10_000, hop_rounds=2, max_ttl=8, trains=0)
HOPS_ONLY = ProbePlan(probes=5, interval_us=10_000, hop_rounds=2, max_ttl=8, trains=0, mtu_every=0)
LAB_INTERVAL_NS = 50_000_000  # these routers do not limit
FAN_INTERVAL_NS = 100_000_000  # sixteen flows, one after the other, take longer than a round of hops
CLASS_CLEARED = 2  # DSCP 0, ECT(0) as it was


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        return runner.run(main)


@pytest.fixture(scope="module", autouse=True)
def lab() -> Iterator[None]:
    with wayside.built():
        yield


async def with_headers(plan: ProbePlan, known: Known) -> Any:
    headers = known.headers = wayside.in_namespace("a", QuotedHeaders.open)
    assert headers is not None
    headers.watch(asyncio.get_running_loop())
    try:
        return await converse(plan, known)
    finally:
        headers.close(asyncio.get_running_loop())


def test_a_plain_way_is_told_as_it_is_and_has_the_same_name_again() -> None:
    known = Known()
    one, back = run(with_headers(QUICK, known))
    assert [hop.address for hop in one.traced.hops] == [R1, X, R3, B]
    assert back.traced.hops[0].address == wayside.R3_BACK
    for hop in one.traced.hops:
        assert hop.answered == hop.sent == QUICK.hop_rounds
        assert (hop.mpls, hop.rewritten, hop.rate_limited, hop.others) == ("", "", False, ())
    assert [hop.traffic_class for hop in one.traced.hops] == [
        MARK,
        MARK,
        MARK,
        None,
    ]  # the end quotes nothing
    for end in (one, back):
        assert (end.traced.class_sent, end.traced.class_arrived) == (MARK, MARK)
        assert (end.traced.mtu.mtu, end.traced.mtu.black_hole, end.traced.mtu.packets) == (1500, False, 1)
    again, _ = run(converse(QUICK, Known(peers=known.peers)))
    assert (one.traced.route.change, again.traced.route.change) == (RouteChange.FIRST, RouteChange.SAME)
    assert again.traced.route.id == one.traced.route.id
    assert again.traced.mtu.packets == 0  # not its turn
    assert [hop.traffic_class for hop in again.traced.hops] == [None] * 4  # no raw socket


def test_bleaching_is_told_by_direction_and_by_hop() -> None:
    wayside.nft("x", "prerouting priority -150", 'iifname "r1" ip dscp set cs0')
    try:
        one, back = run(with_headers(HOPS_ONLY, Known()))
    finally:
        wayside.nft("x")
    assert (one.traced.class_arrived, back.traced.class_arrived) == (CLASS_CLEARED, MARK)
    assert [hop.traffic_class for hop in one.traced.hops[:3]] == [MARK, CLASS_CLEARED, CLASS_CLEARED]


def test_a_black_hole_is_told_from_a_router_that_speaks() -> None:
    for node, device in (("x", "r3"), ("r3", "x")):
        wayside.configure(node, f"link set dev {device} mtu 1400")
    wayside.nft("x", "output priority 0", "icmp type destination-unreachable drop")
    try:
        one, back = run(converse(QUICK))
    finally:
        wayside.nft("x")
        for node, device in (("x", "r3"), ("r3", "x")):
            wayside.configure(node, f"link set dev {device} mtu 1500")
    hole, told = one.traced.mtu, back.traced.mtu
    assert (hole.mtu, hole.black_hole) == (1400, True)
    assert hole.packets <= 10
    assert (told.mtu, told.black_hole, told.packets) == (1400, False, 2)
    assert one.counters.received == one.sent  # none of the test's own packets is that long


def test_the_senders_own_device_is_told_at_once() -> None:
    wayside.configure("a", "link set dev r1 mtu 1380")
    try:
        one, _ = run(converse(QUICK))
    finally:
        wayside.configure("a", "link set dev r1 mtu 1500")
    assert (one.traced.mtu.mtu, one.traced.mtu.black_hole) == (1380, False)


def test_a_router_that_limits_its_answers_loses_nothing() -> None:
    wayside.sysctl("x", "net.ipv4.icmp_ratelimit=2000")  # ms from one to the next, after a burst of 6
    burst = wayside.udp("a", wayside.A)
    burst.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 2)
    for _ in range(8):
        burst.sendto(b"burst", (B, 9))
    burst.close()
    plan = ProbePlan(probes=5, interval_us=10_000, hop_rounds=4, max_ttl=8, trains=0, mtu_every=0)
    try:
        one, _ = run(converse(plan))
    finally:
        wayside.sysctl("x", "net.ipv4.icmp_ratelimit=0")
    limited = [hop.rate_limited for hop in one.traced.hops]
    assert limited == [False, True, False, False]
    assert 0 < one.traced.hops[1].answered < plan.hop_rounds


def test_label_stacks_are_read_as_the_router_wrote_them() -> None:
    entries = struct.pack("!II", 16004 << 12 | 5 << 9 | 1, 24005 << 12 | 1 << 8 | 2)
    bare = struct.pack("!HHHBB", 2 << 12, 0, 4 + len(entries), 1, 1) + entries
    extension = bare[:2] + struct.pack("!H", ones_complement(bare) ^ 0xFFFF) + bare[4:]
    with wayside.mpls_router("x", "r1", extension):
        one, _ = run(converse(HOPS_ONLY))
    assert [hop.mpls for hop in one.traced.hops] == ["", "16004/5/0/1 24005/0/1/2", "", ""]
    assert [hop.address for hop in one.traced.hops] == [R1, X, R3, B]


def test_a_rewritten_destination_is_told_from_where_it_is_seen() -> None:
    wayside.nft("r1", "prerouting priority -300", f"ip daddr {B} ip daddr set {B2} notrack")
    wayside.nft("r3", "prerouting priority -300", f"ip daddr {B2} ip daddr set {B} notrack")
    try:
        one, _ = run(converse(HOPS_ONLY))
    finally:
        wayside.nft("r1")
        wayside.nft("r3")
    assert [hop.rewritten.partition(" ")[0] for hop in one.traced.hops] == [B2, B2, "", ""]


def test_tests_at_once_ask_no_router_more_than_once_a_second() -> None:
    asked: list[int] = []
    known = Known()

    def seen(packet: bytes, at_ns: int) -> None:
        if packet[8] == 1 and packet[12:16] == socket.inet_aton(wayside.A):
            asked.append(at_ns)

    async def both() -> None:
        await asyncio.gather(converse(HOPS_ONLY, known), converse(HOPS_ONLY, known, to=B2, peer="b2"))

    with wayside.Tap("r1", "a", seen):
        run(both())
    assert len(asked) >= 3
    assert wayside.spacing_ns(asked) >= 1_000_000_000


def test_all_ways_are_found_and_taking_another_is_no_change() -> None:
    known = Known()
    with wayside.udp("b", B) as free:
        end = free.getsockname()  # open again only when the test needs it: no flow of the fan may get there
    plan = ProbePlan(probes=5, interval_us=5_000, hop_rounds=1, max_ttl=4, trains=0, mtu_every=0)

    async def fan() -> dict[int, Route]:
        return await routes_of_flows(
            lambda: wayside.udp("a", wayside.A),
            end,
            routers=3,
            clock=SystemClock(),
            ledger=RouterLedger(FAN_INTERVAL_NS),
            interval_ns=FAN_INTERVAL_NS,
        )

    async def one_by_one(ports: list[int]) -> list[Traced]:
        return [(await converse(plan, known, ports=(port, end[1])))[0].traced for port in ports]

    with wayside.balanced():
        flows = run(fan())
        first, second, third = fan_out(list(flows.values()))
        through = {route[1]: port for port, route in flows.items()}
        traced = run(one_by_one([through[X], through[Y], through[X]]))
    assert (first.flows, first.silent) == (((R1, 16),), 0)
    assert {address for address, _ in second.flows} == {X, Y}
    assert sum(count for _, count in second.flows) == 16
    assert third.silent == 0
    assert [each.hops[1].address for each in traced] == [X, Y, X]
    assert [each.route.change for each in traced] == [
        RouteChange.FIRST,
        RouteChange.CHANGED,
        RouteChange.BALANCED,
    ]
    assert traced[0].route.id == traced[2].route.id != traced[1].route.id


def test_a_deep_trace_says_where_udp_is_treated_otherwise_and_leaves_no_half_open_session() -> None:
    segments: list[bytes] = []

    def seen(packet: bytes, _at_ns: int) -> None:
        if packet[9] == socket.IPPROTO_TCP:
            segments.append(packet)

    service = wayside.in_namespace("b", lambda: socket.create_server((B, 0)))
    port = service.getsockname()[1]
    wayside.configure("r1", f"route add default via {Y} table 100", "rule add ipproto udp table 100")
    wayside.nft("y", "forward priority 0", "ip protocol udp drop")
    wayside.nft("r3", "prerouting priority -150", 'iifname "x" ip dscp set cs0')
    try:
        with wayside.Tap("b", "r3", seen):
            told = deep(f"{B}:{port}")
    finally:
        wayside.configure("r1", "rule del ipproto udp table 100")
        wayside.nft("y")
        wayside.nft("r3")
    by = {each["protocol"]: each["hops"] for each in told["traces"]}
    assert [hop["address"] for hop in by["tcp"]] == [R1, X, R3, B]
    assert [hop["address"] for hop in by["icmp"]] == [R1, X, R3, B]
    assert [hop["address"] for hop in by["udp"]] == [R1, Y]
    assert (by["tcp"][-1]["answer"], by["icmp"][-1]["answer"]) == ("open", "echo")
    assert all(hop["answered"] == hop["sent"] == 3 for hops in by.values() for hop in hops)
    assert [line.split(",")[0].split(" (")[0] for line in told["differences"]] == [
        "UDP vanishes after hop 2",
        f"UDP goes another way than TCP at hop 2: {Y} instead of {X}",
        "DSCP 10 comes in as 0 at hop 3",
    ]
    flags = [packet[(packet[0] & 15) * 4 + 13] for packet in segments]
    assert flags == [0x02, 0x04] * 3  # each SYN that got there, and the reset of its answer
    service.settimeout(0.1)
    with pytest.raises(TimeoutError):
        service.accept()
    service.close()


def deep(target: str) -> Any:
    words = ("ip", "netns", "exec", wayside.PREFIX + "a", sys.executable, "-c",
             "import pathgrade; pathgrade.main()", "hops", "--deep", target, "--json")  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_raw_sockets_outlive_root_and_no_new_ones_can_be_had() -> None:
    words = ("ip", "netns", "exec", wayside.PREFIX + "a", sys.executable, str(QUOTED_END), B)
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert done.stdout.split() == [X, "42", "probe"], done.stderr
