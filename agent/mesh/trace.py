"""What one test finds out about the way itself: hops, route, path MTU, and what becomes of DSCP and ECN.

``run`` sends the hop probes beside the test's own probes; ``find_mtu`` follows when those are over, so that
its long datagrams delay none of them. ``Known`` is what an agent remembers from test to test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from agent.mesh import hops, mtu
from agent.mesh.icmp import QuotedHeaders
from agent.mesh.ledger import RouterLedger
from agent.mesh.packet import RAW_BYTES, Raw
from agent.mesh.route import NO_ROUTE, Route, Routes, Settled
from agent.mesh.stamps import Arrival, IcmpError
from agent.mesh.times import Clock
from agent.mesh.wires import Wire
from analytics.measurement import RouteChange
from analytics.wire import TestOrder

MANY_PEERS: Final = 4096


class Link(Protocol):
    """What a trace needs of ``agent.mesh.ice.SecureLink``."""

    on_icmp: Callable[[IcmpError], None] | None

    @property
    def wire(self) -> Wire:
        """How datagrams leave."""

    @property
    def relay_target(self) -> Any:
        """What hop probes are made of where a relay is the end; else None."""


@dataclass(slots=True)
class PeerKnown:
    """What is remembered of one peer."""

    routes: Routes = field(default_factory=Routes)
    tests_since_mtu: int | None = None  # None: never looked


@dataclass(slots=True)
class Known:
    """What an agent remembers between tests, and what all its tests share."""

    ledger: RouterLedger = field(default_factory=RouterLedger)
    headers: QuotedHeaders | None = None  # where a raw socket could be opened
    peers: dict[str, PeerKnown] = field(default_factory=dict)

    def peer(self, name: str) -> PeerKnown:
        """What is remembered of a peer; the one that was first asked for is forgotten when there are many."""
        if name not in self.peers and len(self.peers) >= MANY_PEERS:
            del self.peers[next(iter(self.peers))]
        return self.peers.setdefault(name, PeerKnown())


@dataclass(frozen=True, slots=True)
class Traced:
    """What was found of the way."""

    hops: list[hops.HopSummary]
    route: Settled = NO_ROUTE
    mtu: mtu.PathMtu = mtu.UNKNOWN
    class_sent: int | None = None
    class_arrived: int | None = None


class Trace:
    """One end's trace of one test."""

    def __init__(
        self,
        link: Link,
        end_address: str,
        order: TestOrder,
        clock: Clock,
        *,
        known: Known,
        loop_time: Callable[[], float],
    ) -> None:
        self._link = link
        self._end_address = end_address
        self._plan = order.plan
        self._clock = clock
        self._known = known
        self._peer = known.peer(order.peer)
        self._loop_time = loop_time
        self._token = self._peer_token = b""
        self._tracer: hops.HopTracer | None = None
        self._search: mtu.MtuProbe | None = None
        self._classes: Counter[int] = Counter()
        self._settled = NO_ROUTE
        self._mtu = mtu.UNKNOWN
        link.on_icmp = self._on_icmp

    @property
    def class_of_peer(self) -> int | None:
        """Traffic class that most of the peer's hop probes came in with."""
        return self._classes.most_common(1)[0][0] if self._classes else None

    async def run(self, token: bytes, peer_token: bytes) -> None:
        """Send the hop probes. ``token`` is in what comes back, ``peer_token`` in what goes out."""
        self._token, self._peer_token = token, peer_token
        wire, relay = self._link.wire, self._link.relay_target
        if wire.transport is None or self._plan.hop_rounds == 0:
            return  # a stream has no TTL
        target = relay or hops.PeerTarget(self._end_address, peer_token)
        tracer = self._tracer = hops.HopTracer(target, self._plan.max_ttl, wire.far_end)
        if relay is not None:
            relay.on_answer = tracer.on_end
        forget = self._known.headers.tell(tracer.on_quoted) if self._known.headers else None
        try:
            await hops.run(
                tracer,
                self._plan,
                lambda data, ttl, on_sent: wire.send_near(
                    data, ttl=ttl, on_sent=on_sent, traffic_class=hops.MARK
                ),
                wall_ns=self._clock.wall_ns,
                loop_time=self._loop_time,
                ledger=self._known.ledger,
                patience_s=hops.SINGLE_PATIENCE_S if self._plan.hop_rounds == 1 else hops.PATIENCE_S,
            )
        finally:
            if forget is not None:
                forget()
        self._settled = self._peer.routes.settle(route_of(tracer.summary()))

    async def find_mtu(self, *, sent: int, answered: int, rtt_us: int | None) -> None:
        """Search the path MTU if it is this test's turn, and so little is lost that silence means size."""
        changed = self._settled.change is RouteChange.CHANGED
        due = mtu.is_due(self._plan.mtu_every, self._peer.tests_since_mtu, changed=changed)
        if self._peer.tests_since_mtu is not None:
            self._peer.tests_since_mtu += 1
        lost_bp = 10_000 * (sent - answered) // max(sent, 1)
        wire = self._link.wire
        if not due or wire.transport is None or self._link.relay_target or lost_bp > mtu.MOST_LOSS_BP:
            return
        v6 = wire.header_bytes == hops.HEADERS[True]
        self._search = mtu.MtuProbe(self._peer_token, v6=v6, headers=wire.header_bytes)
        self._mtu = await self._search.search(wire.send_whole, wait_s=mtu.waiting_s(rtt_us))
        self._peer.tests_since_mtu = 0

    def summary(self) -> Traced:
        """What was found."""
        found = self._tracer.summary() if self._tracer is not None else []
        marked = hops.MARK if found else None
        return Traced(found, self._settled, self._mtu, class_sent=marked)

    def reply(self, probe: Raw, arrival: Arrival, *, token: bytes) -> bytes:
        """Answer a hop probe of the peer."""
        if arrival.traffic_class is not None and probe.length == RAW_BYTES:
            self._classes[arrival.traffic_class] += 1
        return hops.hop_reply(probe, arrival, token=token, now_ns=self._clock.wall_ns())

    def on_reply(self, raw: Raw, arrival: Arrival) -> bool:
        """Take the peer's answer to a hop probe; False if it is to none of ours."""
        if not self._token or raw.token != self._token:
            return False
        if raw.sequence > mtu.FIRST_SEQUENCE:
            return self._search is not None and self._search.on_reply(raw.sequence)
        return self._tracer is not None and self._tracer.on_end(
            raw.sequence, arrival, reflecting_ns=raw.sent_ns - raw.received_ns
        )

    def _on_icmp(self, error: IcmpError) -> None:
        if self._search is not None and self._search.on_icmp(error):
            return
        if self._tracer is not None:
            self._tracer.on_icmp(error)


def route_of(found: list[hops.HopSummary]) -> Route:
    """The addresses of a trace, hop by hop."""
    return tuple(hop.address for hop in found)
