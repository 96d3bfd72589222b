"""Pairs of agents in network namespaces of this test's own: the right rung, hops, and sane round trips.

::

    a  192.168.1.10 ─┐
    a2 192.168.1.11 ─┴ gwa (NAT) 203.0.113.2 ── core ── 203.0.113.6 (NAT) gwb ── 192.168.2.10 b
                                                  └─ srv 198.51.100.18: coturn (STUN and TURN)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from agent.identity import load_or_create
from agent.mesh.hops import MARK
from analytics import wire
from analytics.measurement import CapacityTrust, Hop, Reading, Rung, StampSource

pytestmark = [
    pytest.mark.lab,
    pytest.mark.alone,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
]

PREFIX = f"pgm{os.getpid()}-"  # another run of these tests may be under way
NODES = ("a", "a2", "gwa", "core", "gwb", "b", "srv")
ROUTERS = ("gwa", "core", "gwb")
SERVER = "198.51.100.18"
END = Path(__file__).with_name("mesh_pair_end.py")
PLAN = wire.ProbePlan(probes=60, hop_rounds=2, interval_us=20_000)
DIRECT = [Rung.LAN, Rung.IPV6, Rung.SRFLX]
ALL = [*DIRECT, Rung.RELAY_UDP, Rung.RELAY_TCP]
TURN_CONF = f"""listening-ip={SERVER}
relay-ip={SERVER}
listening-port=3478
lt-cred-mech
realm=lab
user=u:p
min-port=50000
max-port=50999
no-cli
no-tls
no-dtls
"""
NAT = """flush ruleset
table ip nat {{
 chain cpost {{ type nat hook postrouting priority 100; oifname "wan" masquerade {flag}; }}
}}
table inet fw {{
 chain cforward {{ type filter hook forward priority 0; policy drop;
  {blocked}
  ct state established,related accept
  iifname "lan" accept
 }}
 chain cinput {{ type filter hook input priority 0; policy accept;
  iifname "wan" ct state established,related accept
  iifname "wan" meta l4proto {{ icmp, ipv6-icmp }} accept
  iifname "wan" drop
 }}
}}
"""
TRIES = 3
LATE_US = 5_000  # of a timer; on an idle machine it is a tenth of a millisecond
UDP_BLOCKED = "meta l4proto udp drop"


def run(*words: str, text: str = "") -> None:
    subprocess.run(words, input=text, text=True, check=True, capture_output=True, timeout=60)


def inside(node: str, *words: str, text: str = "") -> None:
    run("ip", "netns", "exec", PREFIX + node, *words, text=text)


def cable(left: str, left_name: str, right: str, right_name: str) -> None:
    run("ip", "link", "add", "name", left_name, "netns", PREFIX + left, "type", "veth",
        "peer", "name", right_name, "netns", PREFIX + right)  # fmt: skip


def configure(node: str, *commands: str) -> None:
    run("ip", "-n", PREFIX + node, "-batch", "-", text="\n".join(commands) + "\n")


def nat(node: str, *, symmetric: bool = False, blocked: str = "") -> None:
    ruleset = NAT.format(flag="fully-random" if symmetric else "", blocked=blocked)
    inside(node, "nft", "-f", "-", text=ruleset)


def build() -> None:
    for node in NODES:
        run("ip", "netns", "add", PREFIX + node)
        configure(node, "link set lo up")
    for node in ROUTERS:
        inside(node, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    cable("a", "eth0", "gwa", "p1")
    cable("a2", "eth0", "gwa", "p2")
    cable("gwa", "wan", "core", "ca")
    cable("core", "cb", "gwb", "wan")
    cable("gwb", "lan", "b", "eth0")
    cable("core", "cs", "srv", "eth0")
    configure("a", *host("192.168.1.10/24", "192.168.1.1"), *host6("2001:db8:a::10/64", "2001:db8:a::1"))
    configure("a2", *host("192.168.1.11/24", "192.168.1.1"))
    configure("b", *host("192.168.2.10/24", "192.168.2.1"), *host6("2001:db8:b::10/64", "2001:db8:b::1"))
    configure("srv", *host(f"{SERVER}/29", "198.51.100.17"))
    configure(
        "gwa",
        "link add lan type bridge",
        *(f"link set {name} up" for name in ("lan", "p1", "p2", "wan")),
        "link set p1 master lan",
        "link set p2 master lan",
        "addr add 192.168.1.1/24 dev lan",
        "addr add 2001:db8:a::1/64 dev lan nodad",
        "addr add 203.0.113.2/30 dev wan",
        "addr add 2001:db8:1::2/64 dev wan nodad",
        "route add default via 203.0.113.1",
        "route add default via 2001:db8:1::1",
    )
    configure(
        "gwb",
        *(f"link set {name} up" for name in ("lan", "wan")),
        "addr add 192.168.2.1/24 dev lan",
        "addr add 2001:db8:b::1/64 dev lan nodad",
        "addr add 203.0.113.6/30 dev wan",
        "addr add 2001:db8:2::2/64 dev wan nodad",
        "route add default via 203.0.113.5",
        "route add default via 2001:db8:2::1",
    )
    configure(
        "core",
        *(f"link set {name} up" for name in ("ca", "cb", "cs")),
        "addr add 203.0.113.1/30 dev ca",
        "addr add 203.0.113.5/30 dev cb",
        "addr add 198.51.100.17/29 dev cs",
        "addr add 2001:db8:1::1/64 dev ca nodad",
        "addr add 2001:db8:2::1/64 dev cb nodad",
        "route add 2001:db8:a::/64 via 2001:db8:1::2",
        "route add 2001:db8:b::/64 via 2001:db8:2::2",
    )


def host(address: str, gateway: str) -> tuple[str, ...]:
    return ("link set eth0 up", f"addr add {address} dev eth0", f"route add default via {gateway}")


def host6(address: str, gateway: str) -> tuple[str, ...]:
    return (f"addr add {address} dev eth0 nodad", f"route add default via {gateway}")


def tear_down() -> None:
    for node in NODES:
        with contextlib.suppress(subprocess.CalledProcessError):
            run("ip", "netns", "del", PREFIX + node)


@contextlib.contextmanager
def coturn(folder: Path) -> Iterator[None]:
    conf = folder / "turn.conf"
    conf.write_text(TURN_CONF + f"pidfile={folder}/turn.pid\nuserdb={folder}/turn.db\n")
    words = ("ip", "netns", "exec", PREFIX + "srv", "turnserver", "-c", str(conf), "--log-file=stdout")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            # The last line of its start; from then on it answers.
            assert any("Total auth threads" in line or "IO method" in line for line in server.stdout)
            yield
        finally:
            server.kill()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("mesh")
    tear_down()
    try:
        build()
        with coturn(folder):
            yield folder
    finally:
        tear_down()


@dataclass
class Told:
    """What one end told."""

    reading: Reading
    hops: list[Hop]

    def addresses(self) -> list[str]:
        return [hop.address for hop in self.hops]


async def measure(lab: Path, left: str, right: str, rungs: list[Rung]) -> tuple[Told, Told]:
    names = (left, right)
    prints = {name: load_or_create(lab / name, name).fingerprint for name in names}
    processes = [await start(lab, name) for name in names]
    try:
        for process, name, peer in zip(processes, names, names[::-1], strict=True):
            write(process, wire.encode(order(peer, prints[peer], name == left, rungs)))
        one, other = processes
        async with asyncio.timeout(60):
            told = await asyncio.gather(relay(one, other), relay(other, one))
        return told[0], told[1]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def order(peer: str, fingerprint: str, controlling: bool, rungs: list[Rung]) -> wire.TestOrder:
    turn = {"username": "u", "credential": "p"}
    return wire.TestOrder(
        test="t1",
        cycle=1,
        peer=peer,
        peer_fingerprint=fingerprint,
        controlling=controlling,
        rungs=rungs,
        ice_servers=[
            wire.IceServer(url=f"stun:{SERVER}:3478"),
            wire.IceServer(url=f"turn:{SERVER}:3478?transport=udp", **turn),
            wire.IceServer(url=f"turn:{SERVER}:3478?transport=tcp", **turn),
        ],
        plan=PLAN,
        deadline_us=25_000_000,
    )


async def start(lab: Path, name: str) -> asyncio.subprocess.Process:
    words = ("ip", "netns", "exec", PREFIX + name, sys.executable, str(END), name, str(lab / name))
    return await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )


def write(process: asyncio.subprocess.Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")


async def relay(source: asyncio.subprocess.Process, sink: asyncio.subprocess.Process) -> Told:
    """Carry signals from one end to the other until the result comes."""
    assert source.stdout is not None
    while line := (await source.stdout.readline()).decode().strip():
        if line.startswith("="):
            reading, hops = msgspec.json.decode(line[1:], type=tuple[Reading, list[Hop]])
            print(reading, [(h.ttl, h.address, h.rtt_min_us) for h in hops])  # noqa: T201  # for pytest -s
            return Told(reading, hops)
        with contextlib.suppress(ConnectionError):
            write(sink, line)
    raise AssertionError("an end died")


def check(told: Told, rung: Rung, *, stamps: StampSource = StampSource.KERNEL) -> None:
    reading = told.reading
    assert reading.error == ""
    assert reading.rung is rung
    assert (reading.sent, reading.received) == (PLAN.probes, PLAN.probes)
    assert reading.stamps is stamps
    assert reading.loss_bursts == reading.loss_longest == 0
    if stamps is StampSource.KERNEL:
        assert (reading.rtt_n, reading.spoiled) == (PLAN.probes, 0)
    assert reading.rtt_n + reading.spoiled >= PLAN.probes * 0.9
    assert reading.sent_bytes is not None
    assert reading.sent_bytes < 250_000
    assert reading.rtt_min_us is not None
    assert reading.rtt_p50_us is not None
    assert 0 < reading.rtt_min_us <= reading.rtt_p50_us < 10_000
    assert reading.connect_us is not None
    assert reading.connect_us < 1_000_000


def knows_the_way(*ends: Told) -> None:
    """Through NATs and over IPv6 alike: the MTU, the class that arrived, and a name for the route."""
    for told in ends:
        reading = told.reading
        assert (reading.path_mtu, reading.mtu_black_hole, reading.mtu_probes) == (1500, 0, 1)
        assert reading.class_arrived == reading.class_sent == MARK
        assert {hop.route_id for hop in told.hops} == {reading.route_id}
        assert all((hop.rewritten, hop.rate_limited, hop.others) == ("", 0, "") for hop in told.hops)


def test_two_ordinary_nats_connect_by_srflx_and_every_hop_answers(lab: Path) -> None:
    nat("gwa")
    nat("gwb")
    a, b = asyncio.run(measure(lab, "a", "b", [Rung.LAN, Rung.SRFLX, Rung.RELAY_UDP]))
    for told in (a, b):
        check(told, Rung.SRFLX)
        assert told.reading.rungs_failed.startswith("lan: other network")
        assert told.hops[-1].is_end == 1
        assert all(hop.answered == hop.sent == PLAN.hop_rounds for hop in told.hops)
        assert told.hops[-1].rtt_min_us is not None
        assert told.reading.capacity_kbps is not None
    assert a.addresses() == ["192.168.1.1", "203.0.113.1", "203.0.113.6", "192.168.2.10"]
    assert b.addresses() == ["192.168.2.1", "203.0.113.5", "203.0.113.2", "192.168.1.10"]
    knows_the_way(a, b)


def test_behind_one_nat_it_is_the_lan(lab: Path) -> None:
    nat("gwa")
    a, a2 = asyncio.run(measure(lab, "a", "a2", ALL))
    check(a, Rung.LAN)
    check(a2, Rung.LAN)
    assert a.addresses() == ["192.168.1.11"]
    assert a.reading.rungs_failed == ""


def test_ipv6_through_stateful_firewalls(lab: Path) -> None:
    nat("gwa")
    nat("gwb")
    a, b = asyncio.run(measure(lab, "a", "b", ALL))
    check(a, Rung.IPV6)
    check(b, Rung.IPV6)
    assert a.addresses() == ["2001:db8:a::1", "2001:db8:1::1", "2001:db8:2::2", "2001:db8:b::10"]
    knows_the_way(a, b)


def test_symmetric_nat_goes_through_the_relay_and_hops_end_there(lab: Path) -> None:
    nat("gwa", symmetric=True)
    nat("gwb")
    a, b = asyncio.run(measure(lab, "a", "b", [Rung.LAN, Rung.SRFLX, Rung.RELAY_UDP]))
    for told in (a, b):
        check(told, Rung.RELAY_UDP)
        assert "srflx: " in told.reading.rungs_failed
        assert (told.reading.path_mtu, told.reading.class_arrived) == (None, None)  # beyond the relay
        assert told.hops[-1].is_end == 1
    assert a.addresses() == ["192.168.1.1", "203.0.113.1", SERVER]
    assert b.addresses() == ["192.168.2.1", "203.0.113.5", SERVER]


def test_udp_blocked_goes_through_the_relay_over_tcp(lab: Path) -> None:
    nat("gwa", blocked=UDP_BLOCKED)
    nat("gwb")
    a, b = asyncio.run(measure(lab, "a", "b", [Rung.SRFLX, Rung.RELAY_UDP, Rung.RELAY_TCP]))
    for told in (a, b):
        check(told, Rung.RELAY_TCP, stamps=StampSource.USER)
        assert told.hops == []


@contextlib.contextmanager
def shaped(device: str, kbps: int) -> Iterator[None]:
    """Let the core send at a rate that counts IP packets, without their Ethernet headers (tc-stab(8))."""
    on = ("tc", "-n", PREFIX + "core", "qdisc")
    burst = max(3_200, kbps // 40)
    shaper = f"root stab overhead -14 linklayer ethernet tbf rate {kbps}kbit burst {burst} latency 1s"
    run(*on, "add", "dev", device, *shaper.split())
    try:
        yield
    finally:
        run(*on, "del", "dev", device, "root")


def segmented_by_the_kernel(node: str, device: str) -> None:
    """As on most network cards, a router behind it sees single packets."""
    inside(node, "ethtool", "-K", device, "tx-udp-segmentation", "off")


def sure(lab: Path, ends: str) -> tuple[Told, Told]:
    """Measure a and b; again where a reading of ``ends`` doubts its own capacity, or says that it was late.

    A busy machine sends a train with gaps and the probes behind it too late to meet its queue, and takes both
    in late. Of several, what was least in doubt and least late counts.
    """
    tries = []
    while len(tries) < TRIES:
        both = asyncio.run(measure(lab, "a", "b", [Rung.SRFLX]))
        told = [one.reading for one in both if one.reading.src in ends]
        doubts = [reading.capacity_why for reading in told if reading.capacity_why]
        late_us = max(reading.timer_late_p99_us or 0 for reading in told)
        tries.append((len(doubts), late_us, both))
        if not doubts and late_us < LATE_US:
            break
        print(f"in doubt: {doubts}, timers {late_us / 1e3:.1f} ms late")  # noqa: T201  # why there are more
    return min(tries, key=lambda one: one[:2])[2]


def test_the_capacity_of_each_direction_is_its_own(lab: Path) -> None:
    nat("gwa")
    nat("gwb")
    with shaped("cb", 10_000), shaped("ca", 100_000):
        a, b = sure(lab, "ab")
    for told, kbps in ((a, 10_000), (b, 100_000)):
        reading = told.reading
        assert (reading.capacity_trust, reading.capacity_why) == (CapacityTrust.MEASURED, "")
        assert reading.capacity_kbps == pytest.approx(kbps, rel=0.02)
    # 80 packets of 1,228 bytes queue for 79 ms at 10 Mbit/s, and for 8 ms at 100: that may be too short.
    assert a.reading.rtt_loaded_n >= 5
    assert a.reading.rtt_loaded_p95_us is not None
    assert 40_000 < a.reading.rtt_loaded_p95_us < 90_000
    assert b.reading.rtt_loaded_p95_us is None or b.reading.rtt_loaded_p95_us < 12_000


def test_a_slow_path_is_not_flooded_and_a_fast_one_is_no_fantasy(lab: Path) -> None:
    nat("gwa")
    nat("gwb")
    segmented_by_the_kernel("b", "eth0")
    with shaped("cb", 1_000), shaped("ca", 1_000_000):
        a, b = sure(lab, "a")
    assert a.reading.capacity_trust is CapacityTrust.MEASURED
    assert a.reading.capacity_kbps == pytest.approx(1_000, rel=0.02)
    assert a.reading.sent_bytes is not None
    assert a.reading.sent_bytes < 100_000
    assert b.reading.capacity_kbps is not None
    if b.reading.capacity_trust is CapacityTrust.MEASURED:
        assert b.reading.capacity_kbps == pytest.approx(1_000_000, rel=0.1)
    else:
        assert b.reading.capacity_why
        assert b.reading.capacity_kbps < 1_050_000


def test_a_peer_with_another_certificate_is_not_measured(lab: Path, tmp_path: Path) -> None:
    nat("gwa")
    nat("gwb")
    before = load_or_create(lab / "b", "b").fingerprint
    other = load_or_create(tmp_path, "b").fingerprint
    assert before != other
    identity = lab / "b" / "identity.pem"
    kept = identity.read_bytes()

    async def swapped() -> tuple[Told, Told]:
        measuring = asyncio.create_task(measure(lab, "a", "b", [Rung.SRFLX, Rung.RELAY_UDP]))
        await asyncio.sleep(0)  # fingerprints are read before the first await of measure()
        identity.write_bytes((tmp_path / "identity.pem").read_bytes())
        return await measuring

    try:
        a, b = asyncio.run(swapped())
    finally:
        identity.write_bytes(kept)
    assert "certificate" in a.reading.error
    assert "gave up" in b.reading.error
    for told in (a, b):
        assert told.reading.rung is Rung.NONE
        assert told.reading.sent == 0
