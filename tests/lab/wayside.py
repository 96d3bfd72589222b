"""Namespaces with three routers between two hosts, and sockets in them, for test_hops.py.

::

              ┌─ x 10.9.2.2 ─┐
    a ── r1 ──┤              ├── r3 ── b       a 10.9.1.10, b 10.9.5.10 and .11; y stands by until `balance`
              └─ y 10.9.3.2 ─┘

Everything runs in this one process: a socket stays in the namespace it was made in.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

from agent.mesh.budget import Budget
from agent.mesh.climb import Climbed
from agent.mesh.conversation import Conversation
from agent.mesh.icmp import ones_complement
from agent.mesh.measured import Measured
from agent.mesh.pair import SystemClock
from agent.mesh.stamps import StampingLoop, StampingTransport
from agent.mesh.trace import Known
from analytics import wire
from analytics.measurement import Rung
from tests.unit.mesh.test_conversation import PlainLink

PREFIX = f"pgh{os.getpid()}-"
NODES = ("a", "r1", "x", "y", "r3", "b")
A, B, B2 = "10.9.1.10", "10.9.5.10", "10.9.5.11"
R1, X, Y, R3 = "10.9.1.1", "10.9.2.2", "10.9.3.2", "10.9.4.1"
R3_BACK, X_BACK, R1_BACK = "10.9.5.1", "10.9.4.2", "10.9.2.1"
CLONE_NEWNET = 0x40000000
ETH_P_IP = 0x0800
SO_TIMESTAMPNS = 35

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def run(*words: str, text: str = "") -> None:
    subprocess.run(words, input=text, text=True, check=True, capture_output=True, timeout=60)


def inside(node: str, *words: str, text: str = "") -> None:
    run("ip", "netns", "exec", PREFIX + node, *words, text=text)


def configure(node: str, *commands: str) -> None:
    run("ip", "-n", PREFIX + node, "-batch", "-", text="\n".join(commands) + "\n")


def nft(node: str, hook: str = "", rule: str = "") -> None:
    """Have one rule at one hook of a node, or none."""
    table = f"table ip t {{\nchain c {{\ntype filter hook {hook};\n{rule}\n}}\n}}\n" if hook else ""
    inside(node, "nft", "-f", "-", text="flush ruleset\n" + table)


def sysctl(node: str, *settings: str) -> None:
    inside(node, "sysctl", "-qw", *settings)


def cable(left: str, right: str, left_address: str, right_address: str) -> None:
    """Join two nodes; each end's device is named after the other node."""
    run("ip", "link", "add", "name", right, "netns", PREFIX + left, "type", "veth",
        "peer", "name", left, "netns", PREFIX + right)  # fmt: skip
    for node, device, address in ((left, right, left_address), (right, left, right_address)):
        configure(node, f"link set dev {device} up", f"addr add {address} dev {device}")


@contextlib.contextmanager
def built() -> Iterator[None]:
    try:
        for node in NODES:
            run("ip", "netns", "add", PREFIX + node)
            configure(node, "link set lo up")
            # No limit of its own: a test that wants one sets one.
            sysctl(
                node, "net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0", "net.ipv4.conf.all.rp_filter=0"
            )
        cable("a", "r1", f"{A}/24", f"{R1}/24")
        cable("r1", "x", f"{R1_BACK}/24", f"{X}/24")
        cable("r1", "y", "10.9.3.1/24", f"{Y}/24")
        cable("x", "r3", f"{X_BACK}/24", f"{R3}/24")
        cable("y", "r3", "10.9.6.2/24", "10.9.6.1/24")
        cable("r3", "b", f"{R3_BACK}/24", f"{B}/24")
        configure("b", f"addr add {B2}/24 dev r3", f"route add default via {R3_BACK}")
        configure("a", f"route add default via {R1}")
        configure("r1", f"route add default via {X}")
        configure("x", f"route add 10.9.1.0/24 via {R1_BACK}", f"route add 10.9.5.0/24 via {R3}")
        configure("y", "route add 10.9.1.0/24 via 10.9.3.1", "route add 10.9.5.0/24 via 10.9.6.1")
        configure("r3", f"route add default via {X_BACK}")
        yield
    finally:
        for node in NODES:
            with contextlib.suppress(subprocess.CalledProcessError):
                run("ip", "netns", "del", PREFIX + node)


@contextlib.contextmanager
def balanced() -> Iterator[None]:
    """r1 sends half of the flows to b through y."""
    sysctl("r1", "net.ipv4.fib_multipath_hash_policy=1")
    configure("r1", f"route replace default nexthop via {X} nexthop via {Y}")
    try:
        yield
    finally:
        configure("r1", f"route replace default via {X}")


def in_namespace(node: str, make: Callable[[], T]) -> T:
    """Call ``make`` on a thread that is in the node's namespace; sockets that it makes stay there."""

    def there() -> T:
        handle = os.open(Path("/run/netns") / (PREFIX + node), os.O_RDONLY)
        try:
            if _libc.setns(handle, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(handle)
        return make()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(there).result()


def udp(node: str, address: str, port: int = 0) -> socket.socket:
    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, port))
        return sock

    return in_namespace(node, make)


async def link(node: str, address: str, port: int = 0) -> PlainLink:
    made = PlainLink()
    loop = cast(StampingLoop, asyncio.get_running_loop())
    transport = StampingTransport(loop, udp(node, address, port), made)
    transport.on_icmp = lambda error: made.on_icmp(error) if made.on_icmp else None
    await asyncio.sleep(0)
    return made


def order(plan: wire.ProbePlan, peer: str, *, controlling: bool) -> wire.TestOrder:
    return wire.TestOrder(
        test="t", cycle=1, peer=peer, peer_fingerprint="", controlling=controlling,
        rungs=[], ice_servers=[], plan=plan,
    )  # fmt: skip


async def converse(
    plan: wire.ProbePlan,
    known: Known | None = None,
    *,
    to: str = B,
    peer: str = "b",
    ports: tuple[int, int] = (0, 0),
) -> tuple[Measured, Measured]:
    """Test a and b against each other; what a remembers is ``known``."""
    a, b = await link("a", A, ports[0]), await link("b", to, ports[1])
    try:
        a.join(b)
        b.join(a)
        ends = [
            Conversation(
                Climbed(cast(Any, end), Rung.LAN, [], 0, 0),
                made,
                SystemClock(),
                budget=Budget(10**9),
                known=remembered,
            )
            for end, made, remembered in (
                (a, order(plan, peer, controlling=True), known),
                (b, order(plan, "a", controlling=False), None),
            )
        ]
        one, other = await asyncio.gather(*(end.measure() for end in ends))
        return one, other
    finally:
        a.transport.close()
        b.transport.close()


class Tap:
    """Sees the IPv4 packets that come in on one device of one node, with the kernel's time of each."""

    def __init__(self, node: str, device: str, seen: Callable[[bytes, int], None]) -> None:
        def make() -> socket.socket:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
            sock.bind((device, ETH_P_IP))
            sock.settimeout(0.1)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            return sock

        self._socket = in_namespace(node, make)
        self._seen = seen
        self._over = False
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Tap:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while not self._over:
            with contextlib.suppress(TimeoutError):
                packet, ancillary, _, where = self._socket.recvmsg(2048, 64)
                if where[2] != socket.PACKET_OUTGOING:
                    seconds, nanoseconds = struct.unpack("@qq", ancillary[0][2])
                    self._seen(packet, seconds * 1_000_000_000 + nanoseconds)


@contextlib.contextmanager
def mpls_router(node: str, device: str, extension: bytes) -> Iterator[None]:
    """In the node's stead, answer what dies there with an ICMP error that carries ``extension``."""
    raw = in_namespace(node, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))

    def answer(packet: bytes, _at_ns: int) -> None:
        if packet[8] != 1 or packet[9] != socket.IPPROTO_UDP:
            return
        quote = packet[:128].ljust(128, b"\0")
        body = struct.pack("!BBHBBH", 11, 0, 0, 0, 32, 0) + quote + extension
        checksum = ones_complement(body) ^ 0xFFFF
        raw.sendto(body[:2] + struct.pack("!H", checksum) + body[4:], (socket.inet_ntoa(packet[12:16]), 0))

    # The kernel would answer as well.
    nft(node, "prerouting priority 0", "ip ttl 1 ip protocol udp drop")
    try:
        with Tap(node, device, answer):
            yield
    finally:
        nft(node)
        raw.close()


def spacing_ns(moments: list[int]) -> int:
    return min(after - before for before, after in itertools.pairwise(moments))
