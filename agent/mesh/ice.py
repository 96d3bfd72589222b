"""ICE and DTLS: the only module that knows private names of aioice and aiortc (both pinned in pyproject).

One ``Attempt`` is one ICE connection for one rung of the ladder: gather, check, secure. What comes out is a
``SecureLink``: DTLS records on the nominated 5-tuple, stamped by the kernel, between two certificates that
both ends have pinned.

aiortc's package imports PyAV (20 MB) for media that a probe has no use for: only its DTLS transport is
loaded (``agent.mesh.lean``). This module is long because what it must hide is.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import ssl
import struct
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final

import aioice
from aioice import stun as stun  # noqa: PLC0414  # handed on: this is the one room that imports aioice
from aioice.ice import CandidatePair, StunProtocol, relayed_candidate
from OpenSSL import SSL

from agent.errors import PeerCertificateError, RungError
from agent.identity import Identity
from agent.mesh.ladder import MAX_REASON, Candidate, parse_candidate, possible, usable
from agent.mesh.lean import without_media
from agent.mesh.packet import RAW_FIRST_BYTE
from agent.mesh.refusals import Refusal, Refusals
from agent.mesh.servers import Means, options
from agent.mesh.stamps import Arrival, IcmpError, OnSent, StampingLoop, StampingTransport
from agent.mesh.wires import DirectWire, RelayWire, StreamWire, Wire
from analytics.measurement import Rung
from analytics.wire import RungOffer

# A check is sent up to 5 times within 3.1 s (stock: 7 times, 63.5 s), the first repeat after 100 ms.
stun.RETRY_RTO = 0.1
stun.RETRY_MAX = 4

# asyncio.timeout throughout, never wait_for: before Python 3.12 that one may swallow a cancellation.

# With what comes before and after it, each of these keeps the fall to the next rung below 3 s.
GATHER_S: Final = 1.5  # a server is asked at 0, 0.1, 0.3 and 0.7 s
STREAM_GATHER_S: Final = 2.0  # TCP, TLS, then two round trips; a lost SYN is repeated after 1 s
CHECK_S: Final = 2.0  # a peer is asked at 0, 0.1, 0.3, 0.7 and 1.5 s
LAN_CHECK_S: Final = 1.0  # no NAT to open, no router far away
HANDSHAKE_S: Final = 5.0
CLOSE_S: Final = 1.0
ALLOCATE_TRIES: Final = 3  # ports to ask a TURN server from before it is given up (RFC 8656 section 7.4)
ALLOCATION_MISMATCH: Final = 437
OPENER_TTL: Final = 2  # past our own NAT, short of the peer's
OPENER_S: Final = 0.1  # for the peer's opener to pass its NAT too
OPENER_BYTES: Final = 20
MAX_CANDIDATES: Final = 32  # as RungOffer
MOST_REMOTE: Final = 2 * MAX_CANDIDATES  # offered, and seen by themselves (RFC 8445 section 7.3.1.3)
MAX_WAITING: Final = 1024  # datagrams between the socket and DTLS
MAX_RECORDS: Final = 1024  # remembered to tell a duplicate from a forgery
DTLS_APPLICATION_DATA: Final = 23
DTLS_FIRST_BYTES: Final = range(20, 64)  # RFC 7983
DTLS_WINDOW: Final = 64  # records behind the newest one that OpenSSL still takes
DTLS_1_2: Final = 0xFEFD
RECORD_NUMBER: Final = slice(3, 11)  # epoch and sequence of a DTLS 1.2 record (RFC 6347 section 4.1)
MAX_RECORD: Final = 1500


def _import_dtls() -> ModuleType:
    """aiortc.rtcdtlstransport, without executing aiortc/__init__.py and without what only media need."""
    if "aiortc" not in sys.modules:
        spec = importlib.util.find_spec("aiortc")
        assert spec is not None
        sys.modules["aiortc"] = importlib.util.module_from_spec(spec)
    with without_media():
        return importlib.import_module("aiortc.rtcdtlstransport")


_dtls: Final[Any] = _import_dtls()

OnMessage = Callable[[bytes, Arrival, bool], None]
"""Message, when it came, and True if it is a copy of one that came before."""


class RelayTarget:
    """Hop probes whose end is the relay: STUN Binding requests, which a TURN server answers itself."""

    def __init__(self, turn: Any) -> None:
        self.address: str = turn.server[0]
        self.on_answer: Callable[[int, Arrival], bool] | None = None
        self._turn = turn
        self._prefix = os.urandom(8)

    def probe(self, sequence: int) -> bytes:
        """A Binding request that carries ``sequence`` in its transaction id (RFC 8489 section 5)."""
        request = stun.Message(
            message_method=stun.Method.BINDING,
            message_class=stun.Class.REQUEST,
            transaction_id=self._prefix + struct.pack("!I", sequence),
        )
        self._turn.transactions[request.transaction_id] = self
        return bytes(request)

    def sequence_of(self, quoted: bytes) -> int | None:
        """The sequence of a probe as an ICMP error quoted it."""
        if quoted[8:16] != self._prefix or len(quoted) < 20:
            return None
        return int(struct.unpack_from("!I", quoted, 16)[0])

    def response_received(self, message: stun.Message, _addr: tuple[str, int]) -> None:
        """The relay answered; called by aioice in place of a transaction."""
        self._turn.transactions.pop(message.transaction_id, None)
        sequence = self.sequence_of(bytes(8) + message.transaction_id)
        if sequence is not None and self.on_answer is not None:
            self.on_answer(sequence, _arrival())


class SecureLink:
    """DTLS between the two ends of a rung. Callbacks run in the event loop and must not raise."""

    def __init__(self, attempt: Attempt, pair: CandidatePair, wire: Wire) -> None:
        self.wire = wire
        self.local = Candidate(pair.local_candidate.type, *pair.local_addr)
        self.remote = Candidate(pair.remote_candidate.type, *pair.remote_addr)
        self.relay_target: RelayTarget | None = None
        self.on_message: OnMessage | None = None
        self.on_raw: Callable[[bytes, Arrival], None] | None = None
        self.on_icmp: Callable[[IcmpError], None] | None = None
        self.on_closed: Callable[[], None] | None = None
        self.refused = 0  # records that DTLS did not take: forged, damaged or too old
        self.refusals = Refusals()
        self.role = "controlling" if attempt.controlling else "controlled"
        self._attempt = attempt
        self._dtls: Any = None
        self._secured = False
        self._arrival = Arrival(0, False)
        self._record: bytes | None = None  # now in DTLS, not yet seen to be genuine
        self._seen: OrderedDict[bytes, tuple[bytes, bytes]] = OrderedDict()  # number -> record, message
        self._newest = b""  # number of a genuine record
        attempt.connection.on_raw = self._on_raw
        if wire.transport is not None:
            wire.transport.on_icmp = self._on_icmp

    @property
    def kernel_stamps(self) -> bool:
        """True where the kernel stamps this link's datagrams."""
        return self.wire.transport is not None

    def send(self, message: bytes, on_sent: OnSent | None = None) -> bool:
        """Send one message as one DTLS record; False if it was dropped here."""
        ssl = self._dtls._ssl
        try:
            ssl.send(message)
            record = ssl.bio_read(MAX_RECORD)
        except SSL.Error:
            return False
        return self.wire.send(record, on_sent)

    async def secure(self, identity: Identity, peer_fingerprint: str) -> None:
        """Shake hands. Raises ``PeerCertificateError`` or ``RungError``."""
        certificate = PinnedCertificate(identity, peer_fingerprint)
        self._dtls = _dtls.RTCDtlsTransport(self, [certificate])
        self._dtls._register_data_receiver(self)
        pinned = _dtls.RTCDtlsParameters([_dtls.RTCDtlsFingerprint("sha-256", peer_fingerprint)])
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._dtls.start(pinned)
        except TimeoutError:
            raise RungError(f"no DTLS handshake within {HANDSHAKE_S:.0f} s") from None
        if self._dtls.state != "connected":
            await self._flush()
            raise certificate.error()
        self._secured = True
        self._dtls._task.add_done_callback(self._on_pump_done)

    async def close(self) -> None:
        """Say goodbye to the peer and free the sockets."""
        self.on_message = self.on_raw = self.on_icmp = self.on_closed = None
        if self._dtls is not None:
            await self._dtls.stop()
        await self._attempt.close()

    # What RTCDtlsTransport asks of its ICE transport and of its data receiver.

    async def _recv(self) -> bytes:
        while True:
            data, self._arrival = await self._attempt.connection.recv_stamped()
            if not self._is_copy(data):
                return data

    async def _send(self, data: bytes) -> None:
        self.wire.send(data)

    async def _handle_data(self, message: bytes) -> None:
        record, self._record = self._record, None
        if record is not None:
            self._seen[record[RECORD_NUMBER]] = (record, message)
            self._newest = max(self._newest, record[RECORD_NUMBER])
            if len(self._seen) > MAX_RECORDS:
                self._seen.popitem(last=False)
        if self.on_message is not None:
            self.on_message(message, self._arrival, False)

    def _is_copy(self, data: bytes) -> bool:
        """Tell the network's duplicates, which DTLS would drop unseen; count what DTLS refused before."""
        if self._record is not None:
            self._refuse(self._kind_of(self._record[RECORD_NUMBER]))
            self._record = None
        if data[0] not in DTLS_FIRST_BYTES:
            self._refuse(Refusal.UNSOLICITED)
            return True
        if not self._secured or data[:1] != bytes([DTLS_APPLICATION_DATA]):
            return False
        record, message = self._seen.get(data[RECORD_NUMBER], (b"", b""))
        if record != data:
            self._record = data
            return False
        if self.on_message is not None:
            self.on_message(message, self._arrival, True)
        return True

    def _kind_of(self, number: bytes) -> Refusal:
        """What DTLS refused. Only a record within its window is sure to be no genuine one."""
        if int.from_bytes(self._newest, "big") - int.from_bytes(number, "big") < DTLS_WINDOW:
            return Refusal.FORGED
        remembered = next(iter(self._seen)) <= number
        return Refusal.LATE if remembered and number not in self._seen else Refusal.REPLAYED

    def _refuse(self, kind: Refusal) -> None:
        self.refused += 1
        self.refusals[kind] += 1

    async def _flush(self) -> None:
        """Send the alert that a failed handshake left behind, so that the peer fails at once too."""
        try:
            await self._dtls._write_ssl()
        except ConnectionError:
            return

    def _on_raw(self, data: bytes, arrival: Arrival) -> None:
        if self.on_raw is not None:
            self.on_raw(data, arrival)

    def _on_icmp(self, error: IcmpError) -> None:
        if self.on_icmp is not None:
            self.on_icmp(error)

    def _on_pump_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # retrieved: whatever ended it, the link is closed
        if self.on_closed is not None:
            self.on_closed()


class PinnedCertificate:
    """Our certificate for one handshake that accepts exactly one certificate of the peer."""

    def __init__(self, identity: Identity, peer_fingerprint: str) -> None:
        self._certificate = _dtls.RTCCertificate(identity.key, identity.certificate)
        self._pinned = peer_fingerprint.upper()
        self._seen = ""

    def error(self) -> PeerCertificateError | RungError:
        """What a failed handshake failed of."""
        if self._seen and self._seen != self._pinned:
            return PeerCertificateError(
                f"the peer's certificate is {self._seen[:23]}..., enrolled is {self._pinned[:23]}...",
                remedy="if the peer was installed anew, enrol it again; if not, somebody is in between",
            )
        return RungError("the DTLS handshake was refused")

    def _create_ssl_context(self, srtp_profiles: Any) -> SSL.Context:
        context: SSL.Context = self._certificate._create_ssl_context(srtp_profiles)
        # Record numbers, by which copies are told, are in the clear up to 1.2.
        context.set_max_proto_version(DTLS_1_2)
        # aiortc checks only after the handshake, so that the other end believes it is connected.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        return context

    def _verify(self, _connection: Any, certificate: Any, _error: int, depth: int, _ok: int) -> bool:
        if depth > 0:
            return True  # only the leaf is pinned, and nothing but the pin counts
        self._seen = certificate.digest("sha256").decode().upper()
        return self._seen == self._pinned


class _Connection(aioice.Connection):
    """aioice's connection with stamps, bounded queues and raw datagrams."""

    def __init__(self, addresses: Sequence[str] | None, **options: Any) -> None:
        super().__init__(**options)
        self.trouble = ""  # why the relay gave no address
        self.on_raw: Callable[[bytes, Arrival], None] | None = None
        self.dropped = 0
        self.addresses = addresses  # local ones to use; None: all but loopback
        self._arrivals: deque[Arrival] = deque()

    async def get_component_candidates(
        self,
        component: int,
        addresses: list[str],
        timeout: float = GATHER_S,  # noqa: ASYNC109  # aioice's signature
    ) -> list[aioice.Candidate]:
        """Bounded in time, and from given addresses only if there are any given."""
        if self.turn_server is not None:
            return await self._relayed(component)
        chosen = addresses if self.addresses is None or not addresses else list(self.addresses)
        return await super().get_component_candidates(component, chosen, timeout)  # type: ignore[arg-type]  # aioice says int; it is asyncio.wait's

    async def _relayed(self, component: int) -> list[aioice.Candidate]:
        """Ask the TURN server. aioice would not say why it failed, and leave it allocating if cancelled."""
        within_s = GATHER_S if self.turn_transport == "udp" else STREAM_GATHER_S
        try:
            async with asyncio.timeout(within_s):
                candidate, protocol = await self._allocated(component)
        except (OSError, TimeoutError, stun.TransactionError) as error:
            self.trouble = _say(error, within_s)
            return []
        self._protocols.append(protocol)
        return [candidate]

    async def _allocated(self, component: int) -> tuple[aioice.Candidate, StunProtocol]:
        """Have a TURN server allocate an address; from another port where ours is taken, as it sees us.

        A NAT may give this flow the port that another one, perhaps of an agent that was ended, has just had
        (RFC 8656 section 7.4, error 437).
        """
        assert self.turn_server is not None
        for left in reversed(range(ALLOCATE_TRIES)):
            try:
                return await relayed_candidate(
                    component=component,
                    hide_related_address=True,
                    protocol_factory=lambda: StunProtocol(self),
                    turn_server=self.turn_server,
                    turn_username=self.turn_username,
                    turn_password=self.turn_password,
                    turn_ssl=self.turn_ssl,
                    turn_transport=self.turn_transport,
                )
            except stun.TransactionFailed as error:
                if error.response.error_code != ALLOCATION_MISMATCH or not left:
                    raise
        raise AssertionError("the last try either gives or raises")

    def request_received(self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """Bounded: who has this test's password could ask from ever new addresses, each kept and checked."""
        known = any((one.host, one.port) == addr for one in self._remote_candidates)
        full = len(self._remote_candidates) >= MOST_REMOTE and not known
        if full or "PRIORITY" not in message.attributes:
            self.dropped += 1
        else:
            super().request_received(message, addr, protocol)

    def data_received(self, data: bytes, component: int) -> None:
        """Stamp what is not STUN; raw datagrams go past DTLS."""
        if data and data[0] >= RAW_FIRST_BYTE:
            if self.on_raw is not None:
                self.on_raw(data, _arrival())
        elif not data or len(self._arrivals) >= MAX_WAITING:
            self.dropped += 1
        else:
            self._arrivals.append(_arrival())
            super().data_received(data, component)

    async def recv_stamped(self) -> tuple[bytes, Arrival]:
        """The next datagram for DTLS; raises ``ConnectionError`` once closed."""
        data = await self.recv()
        return data, self._arrivals.popleft()

    @property
    def pair(self) -> CandidatePair:
        """The nominated pair."""
        return self._nominated[1]

    def open_nat(self, candidates: Sequence[Candidate]) -> None:
        """Send a datagram past our NAT that dies before the peer's.

        A peer's check that comes first would make some routers map our own flow to another port.
        """
        for protocol in self._protocols:
            transport = protocol.transport
            if isinstance(transport, StampingTransport) and protocol.local_candidate.type == "host":
                for candidate in candidates:
                    if candidate.v6 == (":" in protocol.local_candidate.host):
                        target = (candidate.address, candidate.port)
                        transport.send(bytes(OPENER_BYTES), target, ttl=OPENER_TTL)


class Attempt:
    """One ICE connection, gathered and ready for one rung."""

    def __init__(self, connection: _Connection, controlling: bool, trouble: str = "") -> None:
        self.connection = connection
        self.controlling = controlling
        self.trouble = trouble  # why a server could not be asked
        found = [parse_candidate(c.to_sdp()) for c in connection.local_candidates]
        self.candidates = _offered(possible(found, local=connection.addresses))

    @classmethod
    async def open(cls, rung: Rung, *, controlling: bool, means: Means) -> Attempt:
        """Gather this end's candidates for ``rung``; without any, the offer is empty."""
        trouble = ""
        try:
            chosen = await options(rung, means)
        except RungError as error:
            trouble = str(error)
            chosen = {}
        if rung.relayed:
            chosen |= {"transport_policy": aioice.TransportPolicy.RELAY, "use_ipv6": False}
        connection = _Connection(means.addresses, ice_controlling=controlling, **chosen)
        try:
            await connection.gather_candidates()
        except BaseException:
            await _close(connection)
            raise
        return cls(connection, controlling, trouble or connection.trouble)

    @property
    def empty(self) -> bool:
        """True if nothing can be offered."""
        return not self.candidates

    def offer(self, rung: Rung) -> RungOffer:
        """What the peer needs to know."""
        return RungOffer(
            rung=rung,
            ufrag=self.connection.local_username,
            password=self.connection.local_password,
            candidates=[candidate.sdp for candidate in self.candidates],
            trouble=self.trouble[:MAX_REASON],
        )

    async def connect(self, rung: Rung, offer: RungOffer, theirs: Sequence[Candidate]) -> SecureLink:
        """Run the connectivity checks. Raises ``RungError``."""
        connection = self.connection
        reachable = usable(rung, theirs)
        connection.remote_username, connection.remote_password = offer.ufrag, offer.password
        # Regular nomination (RFC 8445 section 8.1.1): with the aggressive kind the ends may differ.
        connection.remote_is_lite = self.controlling
        for candidate in reachable:
            await connection.add_remote_candidate(aioice.Candidate.from_sdp(candidate.sdp))
        await connection.add_remote_candidate(None)
        if rung in (Rung.SRFLX, Rung.IPV6):
            connection.open_nat(reachable)
            await asyncio.sleep(OPENER_S)
        within_s = LAN_CHECK_S if rung is Rung.LAN else CHECK_S
        try:
            async with asyncio.timeout(within_s):
                await connection.connect()
        except (TimeoutError, ConnectionError):
            raise RungError(f"no answer to {len(reachable)} ICE candidate(s) in {within_s:.0f} s") from None
        return self._link(rung, connection.pair)

    def _link(self, rung: Rung, pair: CandidatePair) -> SecureLink:
        if rung is Rung.LAN and pair.remote_candidate.type != "host":
            raise RungError("answered from another address than its own: a NAT is in between")
        transport = pair.protocol.transport
        if isinstance(transport, StampingTransport):
            return SecureLink(self, pair, DirectWire(transport, pair.remote_addr))
        turn = transport._TurnTransport__inner_protocol  # type: ignore[attr-defined]  # aioice's private name
        channel = turn.peer_to_channel.get(pair.remote_addr)
        if channel is None:
            raise RungError("the TURN server bound no channel to the peer")
        if not isinstance(turn.transport, StampingTransport):
            return SecureLink(self, pair, StreamWire(turn._send, channel))
        link = SecureLink(self, pair, RelayWire(turn.transport, channel))
        link.relay_target = RelayTarget(turn)
        return link

    async def close(self) -> None:
        """Free the sockets; a TURN allocation is given back."""
        await _close(self.connection)


def _offered(found: Sequence[Candidate]) -> list[Candidate]:
    """What is judged here and at the peer alike: a host of many addresses still offers its way out first."""
    return sorted(found, key=lambda candidate: candidate.type == "host")[:MAX_CANDIDATES]


def _say(error: Exception, within_s: float) -> str:
    """Why a TURN server gave no address, in a clause."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError | stun.TransactionTimeout):
        return f"no answer in {within_s} s"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
        return os.strerror(error.errno or 0)  # asyncio's own text has the address in place of the reason
    return str(error) or type(error).__name__


async def _close(connection: _Connection) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await connection.close()
    except TimeoutError:
        return  # a TURN server that does not confirm: aioice closes the socket when it gives up


def _arrival() -> Arrival:
    loop = asyncio.get_running_loop()
    arrival = loop.arrival if isinstance(loop, StampingLoop) else None
    return arrival or Arrival(time.time_ns(), False)
