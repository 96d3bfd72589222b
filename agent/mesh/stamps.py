"""UDP sockets whose packets are stamped by the kernel, as an asyncio event loop.

Under ``StampingLoop`` every plain UDP endpoint is a ``StampingTransport``: SO_TIMESTAMPING gives the moment
the kernel sent (error queue) and received (control message) each datagram, IP_RECVERR gives ICMP errors with
the router's address and what it quoted, and one datagram may have a TTL and a traffic class of its own, or
go out unfragmented or not at all. No privilege is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.mesh.limit import Limit
from agent.mesh.options import (
    MSG_ERRQUEUE,
    ORIGIN_ICMP,
    ORIGIN_ICMP6,
    ORIGIN_LOCAL,
    ORIGIN_TIMESTAMPING,
    PMTUDISC_PROBE,
    SO_TIMESTAMPING,
    STAMPING,
    UDP_SEGMENT,
    V4,
    V6,
    Family,
)

_STAMP: Final = struct.Struct("@qq")
_EXTENDED_ERROR: Final = struct.Struct("@IBBBBI4s")  # sock_extended_err; the offender's sockaddr follows
_RFC4884: Final = struct.Struct("@HBx")  # sock_ee_data_rfc4884: where the extension is, and 1 = it is invalid

MAX_DATAGRAM: Final = 2048  # nothing longer is sent to us; a longer one is cut and refused above
BUFFER_BYTES: Final = (
    212_992  # the kernel's default limit, and it doubles what is asked for: a whole train fits
)
READ_BATCH: Final = 64  # datagrams a wake-up, so that timers get their turn
SEND_TRIES: Final = 4  # a pending ICMP error is reported on send instead of sending
STAMP_WINDOW_NS: Final = 1_000_000_000
"""A transmit stamp later than this after the send is of no use. A host may be held up for tens of
milliseconds within the call; a stamp of an earlier packet is before the send, so it is not taken."""
MAX_PENDING: Final = 512
MAX_SEGMENTS: Final = 64  # UDP GSO: UDP_MAX_SEGMENTS of linux/udp.h ...
MAX_SEGMENTED: Final = 65_000  # ... and altogether the bytes of one IP packet

OnSent = Callable[[int], None]
"""Called with the kernel's transmit stamp in ns since 1970; not called if the kernel gave none."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """When and how a datagram came in."""

    received_ns: int
    kernel: bool  # False: the process read the clock
    ttl: int | None = None
    traffic_class: int | None = None  # DSCP and ECN (RFC 2474, RFC 3168), as they came in


@dataclass(frozen=True, slots=True)
class SentTrain:
    """How a train left: ``before`` packets went to the kernel in the ``span_ns`` before the last call."""

    whole: bool  # the kernel took all of it
    began_ns: int  # wall clock
    before: int
    span_ns: int


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error about a datagram this socket sent (RFC 792, RFC 4443).

    ``router`` is empty where this host itself refused to send: the datagram is longer than its device takes.
    """

    received_ns: int
    v6: bool
    type: int
    code: int
    router: str
    quoted: bytes  # our UDP payload as far as the router quoted it, and what follows it in the error
    destination: tuple[str, int] | None = None  # where the quoted datagram was going when it died
    extension_at: int | None = None  # of an RFC 4884 extension in ``quoted``, if the router tells
    mtu: int | None = (
        None  # of the link that it was too long for (RFC 1191, RFC 8201), if that was the reason
    )


class StampingTransport(asyncio.DatagramTransport):
    """A bound or connected UDP socket; ``arrival`` tells about the datagram being delivered right now."""

    def __init__(self, loop: StampingLoop, sock: socket.socket, protocol: asyncio.DatagramProtocol) -> None:
        connected = _peer_name(sock)
        super().__init__({"socket": sock, "sockname": sock.getsockname(), "peername": connected})
        self._loop = loop
        self._socket = sock
        self._protocol = protocol
        self._peer = connected
        self._family = V6 if sock.family == socket.AF_INET6 else V4
        self._closing = False
        self._next_id = 0
        self._pending: dict[int, tuple[int, OnSent]] = {}
        self.on_icmp: Callable[[IcmpError], None] | None = None
        self.send_errors = 0
        self.sent_bytes = 0  # IP and UDP headers included
        self.limit = Limit()
        self.malformed = 0
        self._configure()
        loop.add_reader(sock.fileno(), self._on_readable)
        loop.call_soon(protocol.connection_made, self)

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send one datagram; what cannot be sent is dropped and counted, as UDP does."""
        self.send(data, addr)

    def send(
        self,
        data: bytes,
        addr: Any = None,
        *,
        ttl: int | None = None,
        traffic_class: int | None = None,
        on_sent: OnSent | None = None,
    ) -> bool:
        """Send one datagram, with a TTL and traffic class of its own if given. True if the kernel took it."""
        own = ((self._family.ttl, ttl), (self._family.traffic_class, traffic_class))
        ancillary = [
            (self._family.level, kind, struct.pack("@i", value)) for kind, value in own if value is not None
        ]
        return self._send([data], ancillary, addr, on_sent)

    def send_whole(self, data: bytes, addr: Any = None) -> bool:
        """Send one datagram that nobody may fragment, whatever is known of the path (RFC 8899 section 3).

        False if the kernel did not take it; ``on_icmp`` has heard why if it is longer than the device takes.
        """
        family = self._family
        usual = self._socket.getsockopt(family.level, family.mtu_discover)
        self._socket.setsockopt(family.level, family.mtu_discover, PMTUDISC_PROBE)
        try:
            return self._send([data], [], addr, None)
        finally:
            self._socket.setsockopt(family.level, family.mtu_discover, usual)

    def send_train(self, datagrams: Sequence[bytes], addr: Any = None, *, chunk: int = 1) -> SentTrain:
        """Send datagrams of one length back to back, ``chunk`` in a system call (more than one: UDP GSO)."""
        chunks = [datagrams[start : start + chunk] for start in range(0, len(datagrams), chunk)]
        size = struct.pack("@H", len(datagrams[0]))
        ancillary = [(socket.IPPROTO_UDP, UDP_SEGMENT, size)] if chunk > 1 else []
        begins_ns = []
        for buffers in chunks:
            begins_ns.append(time.time_ns())
            if not self._send(buffers, ancillary, addr, None, look=False):
                return SentTrain(False, begins_ns[0], 0, 0)
        self._read_error_queue()
        before = len(datagrams) - len(chunks[-1])
        return SentTrain(True, begins_ns[0], before, begins_ns[-1] - begins_ns[0])

    def _size(self, buffers: Sequence[bytes]) -> int:
        return sum(map(len, buffers)) + len(buffers) * self._family.header_bytes

    def _count(self, buffers: Sequence[bytes]) -> None:
        size = self._size(buffers)
        self.sent_bytes += size
        self._loop.sent_bytes += size

    def _send(
        self,
        buffers: Sequence[bytes],
        ancillary: list[tuple[int, int, bytes]],
        addr: Any,
        on_sent: OnSent | None,
        *,
        look: bool = True,
    ) -> bool:
        if self._closing or not self.limit.admits(self.sent_bytes, self._size(buffers)):
            return False
        for _ in range(SEND_TRIES):
            before_ns = time.time_ns()
            try:
                self._socket.sendmsg(buffers, ancillary, 0, None if self._peer else addr)
            except BlockingIOError:
                break
            except OSError as error:
                self._read_error_queue()
                if error.errno == errno.EMSGSIZE:
                    break  # nor will it fit a second time
                continue
            self._expect_stamp(before_ns, on_sent)
            self._count(buffers)
            if look:  # the stamp of a packet that went straight to the device is there already
                self._read_error_queue()
            return True
        self.send_errors += 1
        return False

    def _expect_stamp(self, before_ns: int, on_sent: OnSent | None) -> None:
        stamp_id = self._next_id
        self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        if on_sent is None:
            return
        while len(self._pending) >= MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[stamp_id] = (before_ns, on_sent)

    def _on_readable(self) -> None:
        self._read_error_queue()
        for _ in range(READ_BATCH):
            try:
                data, ancillary, _, addr = self._socket.recvmsg(MAX_DATAGRAM, 256)
            except BlockingIOError:
                return
            except OSError:
                self._read_error_queue()
                continue
            if self._closing:
                return
            self._deliver(data, ancillary, addr)

    def _deliver(self, data: bytes, ancillary: list[tuple[int, int, bytes]], addr: Any) -> None:
        self._loop.arrival = self._arrival(ancillary)
        try:
            self._protocol.datagram_received(data, addr)
        except (ValueError, LookupError, struct.error):
            # What aioice's STUN parser lets through on malformed attributes.
            self.malformed += 1
        finally:
            self._loop.arrival = None

    def _arrival(self, ancillary: list[tuple[int, int, bytes]]) -> Arrival:
        stamp_ns, ttl, traffic_class = 0, None, None
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPING:
                stamp_ns = _stamp_ns(value)
            elif level == self._family.level and kind == self._family.ttl:
                ttl = struct.unpack("@i", value)[0]
            elif level == self._family.level and kind == self._family.traffic_class:
                traffic_class = value[0] if len(value) == 1 else struct.unpack("@i", value)[0]
        return Arrival(stamp_ns or time.time_ns(), bool(stamp_ns), ttl, traffic_class)

    def _read_error_queue(self) -> None:
        while not self._closing:
            try:
                quoted, ancillary, _, name = self._socket.recvmsg(MAX_DATAGRAM, 512, MSG_ERRQUEUE)
            except OSError:
                return
            self._on_error_message(quoted, ancillary, name)

    def _on_error_message(self, quoted: bytes, ancillary: list[tuple[int, int, bytes]], name: Any) -> None:
        stamp_ns, extended = 0, b""
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPING:
                stamp_ns = _stamp_ns(value)
            elif level == self._family.level and kind == self._family.receive_errors:
                extended = value
        if len(extended) < _EXTENDED_ERROR.size:
            return
        number, origin, kind, code, _, info, data = _EXTENDED_ERROR.unpack_from(extended)
        if origin == ORIGIN_TIMESTAMPING:
            self._on_transmit_stamp(int.from_bytes(data, sys.byteorder), stamp_ns)
        elif self.on_icmp is None:
            return
        elif origin in (ORIGIN_ICMP, ORIGIN_ICMP6):
            too_long = _is_too_long(self._family, kind, code)
            at, invalid = _RFC4884.unpack(data)
            self.on_icmp(
                IcmpError(
                    received_ns=stamp_ns or time.time_ns(),
                    v6=origin == ORIGIN_ICMP6,
                    type=kind,
                    code=code,
                    router=self._offender(extended[_EXTENDED_ERROR.size :]),
                    quoted=quoted,
                    destination=(str(name[0]), int(name[1])) if name else None,
                    extension_at=at if at and not invalid else None,
                    mtu=info if too_long else None,
                )
            )
        elif origin == ORIGIN_LOCAL and number == errno.EMSGSIZE:
            kind, any_code = self._family.too_long
            v6 = self._family is V6
            self.on_icmp(IcmpError(time.time_ns(), v6, kind, any_code or 0, "", b"", mtu=info))

    def _on_transmit_stamp(self, stamp_id: int, stamp_ns: int) -> None:
        before_ns, on_sent = self._pending.pop(stamp_id, (0, None))
        # The window also catches ids that ran out of step: kernels before 6.7 count failed sends.
        if on_sent is not None and before_ns <= stamp_ns <= before_ns + STAMP_WINDOW_NS:
            on_sent(stamp_ns)

    def _offender(self, sockaddr: bytes) -> str:
        """Address of the router; empty if the kernel does not tell."""
        family = self._family
        address = sockaddr[family.address_at]
        whole = len(sockaddr) >= family.address_at.stop
        if not whole or struct.unpack_from("@H", sockaddr)[0] != family.sockaddr_family:
            return ""
        return socket.inet_ntop(family.sockaddr_family, address)

    def _configure(self) -> None:
        self._socket.setblocking(False)
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, buffer, BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, STAMPING)
        self._socket.setsockopt(self._family.level, self._family.receive_errors, 1)
        self._socket.setsockopt(self._family.level, self._family.receive_ttl, 1)
        self._socket.setsockopt(self._family.level, self._family.receive_traffic_class, 1)
        with contextlib.suppress(OSError):  # an older kernel does not know it: no MPLS labels then
            self._socket.setsockopt(self._family.level, self._family.receive_extensions, 1)

    def is_closing(self) -> bool:
        """True once closed."""
        return self._closing

    def close(self) -> None:
        """Stop; the protocol's ``connection_lost`` is called soon."""
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.call_soon(self._closed)

    abort = close

    def _closed(self) -> None:
        self._pending.clear()
        self.on_icmp = None
        self._protocol.connection_lost(None)
        self._socket.close()


class StampingLoop(asyncio.SelectorEventLoop):
    """The agent's event loop. ``asyncio.Runner(loop_factory=StampingLoop)``."""

    arrival: Arrival | None = None
    """Of the datagram that is being delivered; None outside a delivery."""
    sent_bytes: int = 0
    """By all sockets so far, IP and UDP headers included."""

    def __init__(self) -> None:
        super().__init__()
        # The kernel begins to stamp arrivals a moment after the first socket asks for it, and patches its own
        # code to do so: one that asks as long as the loop lives spares every test both.
        self._asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._asking.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, STAMPING)

    def close(self) -> None:
        """As in asyncio."""
        self._asking.close()
        super().close()

    async def create_datagram_endpoint(  # type: ignore[override]  # the options in use, by name
        self,
        protocol_factory: Callable[[], asyncio.DatagramProtocol],
        local_addr: tuple[str, int] | None = None,
        remote_addr: tuple[str, int] | None = None,
        **options: Any,
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        """As in asyncio, but stamped; addresses are numeric. Other options get asyncio's own transport."""
        if options or (local_addr is None and remote_addr is None):
            return await super().create_datagram_endpoint(
                protocol_factory, local_addr=local_addr, remote_addr=remote_addr, **options
            )
        protocol = protocol_factory()
        sock = _open(local_addr, remote_addr)
        try:
            transport = StampingTransport(self, sock, protocol)
        except OSError:
            sock.close()
            raise
        await asyncio.sleep(0)  # connection_made has run when the caller goes on, as asyncio promises
        return transport, protocol


def _open(local: tuple[str, int] | None, remote: tuple[str, int] | None) -> socket.socket:
    address = local or remote
    assert address is not None
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if local is not None:
            sock.bind(local[:2])
        if remote is not None:
            sock.connect(remote[:2])
    except OSError:
        sock.close()
        raise
    return sock


def _peer_name(sock: socket.socket) -> Any:
    try:
        return sock.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        return None


def _is_too_long(family: Family, kind: int, code: int) -> bool:
    too_long, with_code = family.too_long
    return kind == too_long and with_code in (None, code)


def _stamp_ns(value: bytes) -> int:
    seconds, nanoseconds = _STAMP.unpack_from(value)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
