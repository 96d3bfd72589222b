"""Traces to the real service port, by TCP, ICMP and UDP: a process of its own, the only place with scapy.

scapy costs 80 MB and half a second, so it lives no longer than one trace: ``python -m agent.mesh.deep`` takes
a ``DeepOrder`` as JSON on stdin and prints the ``DeepTrace``s. It needs CAP_NET_RAW.

Every probe has a TTL. Each TTL gets one probe a second, whatever the protocol, so no router is asked more
often. A protocol keeps its ports, so that its probes take one way. What reaches the service is a bare SYN,
whose SYN/ACK this host's kernel answers with RST (the port is held, but nothing listens on it), an echo
request, or sixteen zero bytes by UDP; the protocol's probes then go no farther than that.
"""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror, IPerror, TCPerror, UDPerror
from scapy.packet import Packet, Raw

from agent.mesh.icmp import ExtensionError, labels_of
from agent.mesh.treatment import DSCP, UNREACHABLE, DeepHop, DeepOrder, DeepTrace, Protocol

EVERY_S: Final = 1.01
"""From one probe of a TTL to the next; the 10 ms are what a timer may be late."""
LAST_WAIT_S: Final = 1.5
UDP_BYTES: Final = 16
MAX_PACKET: Final = 2048
SO_TIMESTAMPNS: Final = 35
SO_ATTACH_FILTER: Final = 26
WORD: Final = 4  # ICMP's length field counts the quote in these (RFC 4884)
LEAST_HEADER: Final = 20
ANSWERING: Final = (0, 3, 11)  # ICMP: echo reply, unreachable, time exceeded
SYN_ACK: Final = 0x12
RST: Final = 0x04


@dataclass(slots=True)
class Sent:
    """One probe."""

    protocol: Protocol
    ttl: int
    sent_ns: int
    answered: bool = False


@dataclass(slots=True)
class Heard:
    """What one protocol's probes of one TTL brought."""

    sent: int = 0
    addresses: Counter[str] = field(default_factory=Counter)
    rtts_ns: list[int] = field(default_factory=list)
    mpls: str = ""
    answer: str = ""
    is_end: bool = False
    dscp: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an incoming packet says of the probe that it is about."""

    number: int
    protocol: Protocol
    words: str = ""  # empty: it only died on the way
    is_end: bool = False


class Deep:
    """The traces under way: which probe goes when, and what came of each. No socket, no clock."""

    def __init__(self, order: DeepOrder, ports: dict[Protocol, int]) -> None:
        self.malformed = 0  # packets that scapy cannot read
        self._order = order
        self._ports = ports
        self._sent: dict[int, Sent] = {}
        self._limit: dict[Protocol, int] = dict.fromkeys(order.protocols, order.max_ttl)
        self._heard = {
            (protocol, ttl): Heard() for protocol in order.protocols for ttl in range(1, order.max_ttl + 1)
        }

    def plan(self) -> Iterator[tuple[float, Protocol, int]]:
        """Seconds from the start, protocol and TTL of every probe, in order."""
        passes = [p for _ in range(self._order.rounds) for p in self._order.protocols]
        for place, protocol in enumerate(passes):
            for ttl in range(1, self._order.max_ttl + 1):
                yield (place + (ttl - 1) / self._order.max_ttl) * EVERY_S, protocol, ttl

    def probe(self, protocol: Protocol, ttl: int, now_ns: int) -> bytes | None:
        """The next probe, as an IP packet; None beyond who ended this protocol's way."""
        if ttl > self._limit[protocol]:
            return None
        number = len(self._sent) + 1
        self._sent[number] = Sent(protocol, ttl, now_ns)
        self._heard[protocol, ttl].sent += 1
        head = IP(dst=self._order.address, ttl=ttl, id=number, tos=DSCP << 2)
        return bytes(head / self._payload(protocol, number))

    def take(self, packet: bytes, received_ns: int) -> None:
        """An IP packet came in; what is not about a probe of ours is passed over."""
        if not may_answer(packet):
            return
        seen = IP(packet)
        answer = self._about(seen)
        sent = self._sent.get(answer.number) if answer is not None else None
        if answer is None or sent is None or sent.answered or sent.protocol != answer.protocol:
            return
        if received_ns < sent.sent_ns:
            return
        sent.answered = True
        heard = self._heard[sent.protocol, sent.ttl]
        heard.addresses[seen.src] += 1
        heard.rtts_ns.append(received_ns - sent.sent_ns)
        heard.mpls = _mpls(seen) or heard.mpls
        if IPerror in seen and not answer.is_end:
            heard.dscp = int(seen[IPerror].tos) >> 2
        if answer.words:
            heard.answer, heard.is_end = answer.words, answer.is_end
            self._limit[sent.protocol] = min(self._limit[sent.protocol], sent.ttl)

    def traces(self) -> list[DeepTrace]:
        """What was found, each protocol as far as its end or its last answer."""
        return [self._trace(protocol) for protocol in self._order.protocols]

    def _trace(self, protocol: Protocol) -> DeepTrace:
        heard = {ttl: seen for (of, ttl), seen in self._heard.items() if of == protocol}
        limit = self._limit[protocol]
        ended = limit if heard[limit].answer else 0
        last = ended or max((ttl for ttl, seen in heard.items() if seen.rtts_ns), default=0)
        return DeepTrace(protocol=protocol, hops=[_hop(ttl, heard[ttl]) for ttl in range(1, last + 1)])

    def _payload(self, protocol: Protocol, number: int) -> Packet:
        port, own = self._order.port, self._ports[protocol]
        payloads: dict[Protocol, Callable[[], Packet]] = {
            "tcp": lambda: TCP(sport=own, dport=port, seq=number, flags="S", window=1024),
            "icmp": lambda: ICMP(id=own, seq=number) / Raw(bytes(UDP_BYTES)),
            "udp": lambda: UDP(sport=own, dport=port) / Raw(bytes(UDP_BYTES)),
        }
        return payloads[protocol]()

    def _about(self, seen: Packet) -> Answer | None:
        """Which probe a packet answers, if any."""
        if ICMP in seen:
            return self._icmp(seen)
        if TCP in seen and seen[TCP].dport == self._ports.get("tcp") and seen.src == self._order.address:
            flags = int(seen[TCP].flags)
            words = "open" if flags & SYN_ACK == SYN_ACK else "closed" if flags & RST else ""
            return Answer(seen[TCP].ack - 1, "tcp", words, True) if words else None
        if UDP in seen and seen[UDP].dport == self._ports.get("udp") and seen.src == self._order.address:
            return self._latest_udp()
        return None

    def _icmp(self, seen: Packet) -> Answer | None:
        icmp = seen[ICMP]
        if icmp.type == 0 and icmp.id == self._ports.get("icmp") and seen.src == self._order.address:
            return Answer(icmp.seq, "icmp", "echo", True)
        if icmp.type not in (3, 11) or IPerror not in seen or seen[IPerror].dst != self._order.address:
            return None
        words = UNREACHABLE.get(icmp.code, f"unreachable, code {icmp.code}") if icmp.type == 3 else ""
        return self._quoted(seen, words, is_end=bool(words) and seen.src == self._order.address)

    def _quoted(self, seen: Packet, words: str, *, is_end: bool) -> Answer | None:
        """The probe that an ICMP error quotes: by what its protocol carries in the first eight bytes."""
        if TCPerror in seen and seen[TCPerror].sport == self._ports.get("tcp"):
            return Answer(seen[TCPerror].seq, "tcp", words, is_end)
        if ICMPerror in seen and seen[ICMPerror].id == self._ports.get("icmp"):
            return Answer(seen[ICMPerror].seq, "icmp", words, is_end)
        if UDPerror in seen and seen[UDPerror].sport == self._ports.get("udp"):
            return Answer(seen[IPerror].id, "udp", words, is_end)
        return None

    def _latest_udp(self) -> Answer | None:
        """A service's UDP answer names no probe: it is taken for one to the latest that got so far."""
        for number, sent in reversed(self._sent.items()):
            if sent.protocol == "udp" and not sent.answered:
                return Answer(number, "udp", "open", True)
        return None


def may_answer(packet: bytes) -> bool:
    """Whether an IPv4 packet is of a kind that can answer a probe, by a few of its bytes.

    The raw socket gets whatever ICMP anybody sends to this host, and scapy takes 0.2 ms for a packet.
    """
    header = (packet[0] & 0x0F) * WORD if packet and packet[0] >> 4 == 4 else 0
    if header < LEAST_HEADER or len(packet) <= header:
        return False
    protocol = packet[9]
    if protocol == socket.IPPROTO_ICMP:
        return packet[header] in ANSWERING
    return protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP)


def _hop(ttl: int, heard: Heard) -> DeepHop:
    ranked = [address for address, _ in heard.addresses.most_common()]
    return DeepHop(
        ttl=ttl,
        sent=heard.sent,
        answered=len(heard.rtts_ns),
        address=ranked[0] if ranked else "",
        others=sorted(ranked[1:]),
        rtt_min_us=round(min(heard.rtts_ns) / 1000) if heard.rtts_ns else None,
        mpls=heard.mpls,
        answer=heard.answer,
        is_end=heard.is_end,
        dscp=heard.dscp,
    )


def _mpls(seen: Packet) -> str:
    if ICMP not in seen or seen[ICMP].type not in (3, 11):
        return ""
    message = bytes(seen[ICMP].original)
    told_at = message[5] * WORD or None if len(message) > 8 else None
    try:
        return " ".join(map(str, labels_of(message[8:], told_at, headers=0)))
    except ExtensionError:
        return ""


# --- sockets ------------------------------------------------------------------------------------------------


def run(order: DeepOrder) -> list[DeepTrace]:
    """Send the plan and read what comes. Raises ``OSError`` where the kernel does not let it."""
    with contextlib.ExitStack() as open_:
        held = {p: open_.enter_context(_hold(p)) for p in order.protocols}
        ports = {p: int(sock.getsockname()[1]) for p, sock in held.items()}
        deep = Deep(order, ports)
        out = open_.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
        ins = [open_.enter_context(sock) for sock in _listeners(order, ports)]
        begin_s = time.monotonic()
        for at_s, protocol, ttl in deep.plan():
            _read_until(begin_s + at_s, ins, deep)
            packet = deep.probe(protocol, ttl, time.time_ns())
            if packet is not None:
                with contextlib.suppress(OSError):  # as if lost: an address without a route, a full queue
                    out.sendto(packet, (order.address, 0))
        _read_until(time.monotonic() + LAST_WAIT_S, ins, deep)
        return deep.traces()


def _hold(protocol: Protocol) -> socket.socket:
    """Own a port for as long as the trace runs, so that nobody else's packets are taken for answers."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    sock.bind(("", 0))
    return sock


def _listeners(order: DeepOrder, ports: dict[Protocol, int]) -> Iterator[socket.socket]:
    """Raw sockets: ICMP from anyone; TCP and UDP from the service to our ports only: hosts are busy."""
    yield _raw(socket.IPPROTO_ICMP)
    numbers: dict[Protocol, int] = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
    for protocol, number in numbers.items():
        if protocol in ports:
            sock = _raw(number)
            _only_to_port(sock, ports[protocol])
            sock.connect((order.address, 0))
            yield sock


def _raw(number: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, number)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return sock


def _only_to_port(sock: socket.socket, port: int) -> None:
    """Classic BPF: X = 4 * IHL; A = destination port; keep the packet if A is ours."""
    lines = [(0xB1, 0, 0, 0), (0x48, 0, 0, 2), (0x15, 0, 1, port), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    sock.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(lines), ctypes.addressof(program))
    )


def _read_until(until_s: float, ins: list[socket.socket], deep: Deep) -> None:
    while (left_s := until_s - time.monotonic()) > 0:
        for sock in select.select(ins, [], [], left_s)[0]:
            _read(sock, deep)


def _read(sock: socket.socket, deep: Deep) -> None:
    try:
        packet, ancillary, _, _ = sock.recvmsg(MAX_PACKET, 64)
    except OSError:
        return  # an ICMP error about our own packets, which the ICMP socket tells better
    received_ns = time.time_ns()
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack_from("@qq", value)
            received_ns = seconds * 1_000_000_000 + nanoseconds
    try:
        deep.take(packet, received_ns)
    except Exception:  # scapy raises whatever its fields raise on bytes that make no sense
        deep.malformed += 1


def main(stdin: Any, stdout: Any) -> int:
    """Take the order, print the traces; 77 where the kernel does not allow raw sockets."""
    order = msgspec.json.decode(stdin.read(), type=DeepOrder)
    try:
        traces = run(order)
    except PermissionError as error:
        stdout.write(msgspec.json.encode(str(error)))
        return 77
    stdout.write(msgspec.json.encode(traces))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer, sys.stdout.buffer))
