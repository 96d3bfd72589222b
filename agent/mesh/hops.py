"""Where on the way: TTL-limited probes on the 5-tuple that the test itself uses.

All TTLs are interleaved, and no router is asked more often than once a second, by all tests of this agent
together (``agent/mesh/ledger.py``): routers limit the rate of their ICMP errors, and a limit looks like loss.
Nothing is sent beyond the TTL that reached the end. Routers answer with ICMP time exceeded in the socket's
error queue; the end answers by itself: the peer with a hop reply, a TURN server with a STUN response.

The probes, and nothing else of a test, carry ``MARK``, so that it is seen what becomes of DSCP and ECN.

Pure but for ``run``.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from agent.mesh.icmp import ExtensionError, QuotedDatagram, labels_of
from agent.mesh.ledger import UNKNOWN, RouterLedger
from agent.mesh.packet import Raw, RawKind, quoted_raw
from agent.mesh.probe import MOST_REFLECTING_NS, percentile
from agent.mesh.stamps import Arrival, IcmpError, OnSent
from analytics.wire import ProbePlan

TIME_EXCEEDED: Final = {False: 11, True: 3}  # ICMP (RFC 792), ICMPv6 (RFC 4443)
LAST_WAIT_S: Final = 0.5
PATIENCE_S: Final = 1.0  # after the last round, for routers that another test has just asked
SINGLE_PATIENCE_S: Final = 0.5  # where somebody waits for a test on demand
SINGLE_ROUND_S: Final = 0.4  # a plan with one round is in a hurry: each TTL asks another router anyway
OUTSTANDING_NS: Final = 1_000_000_000
HEADERS: Final = {False: 28, True: 48}  # IP and UDP, which the kernel takes off what a router quoted

MARK: Final = 10 << 2 | 2
"""Traffic class of the probes: DSCP AF11 (RFC 2597), which no network need hurry, and ECT(0) (RFC 3168)."""


class Target(Protocol):
    """What the probes are made of, and where they end."""

    @property
    def address(self) -> str:
        """Address of the end."""

    def probe(self, sequence: int) -> bytes:
        """A datagram that carries ``sequence`` and is answered by the end."""

    def sequence_of(self, quoted: bytes) -> int | None:
        """The sequence in a datagram as an ICMP error quoted it; None if it is not told."""


@dataclass(frozen=True, slots=True)
class PeerTarget:
    """The peer answers: raw hop probes with the token it handed over."""

    address: str
    token: bytes

    def probe(self, sequence: int) -> bytes:
        """As ``Target``."""
        return Raw(RawKind.HOP_PROBE, self.token, sequence).encode()

    def sequence_of(self, quoted: bytes) -> int | None:
        """As ``Target``."""
        told = quoted_raw(quoted)
        return told[1] if told is not None and told[0] == self.token else None


def hop_reply(probe: Raw, arrival: Arrival, *, token: bytes, now_ns: int) -> bytes:
    """The peer's side: the answer to a hop probe."""
    return Raw(RawKind.HOP_REPLY, token, probe.sequence, arrival.received_ns, now_ns).encode()


@dataclass(slots=True)
class _Sent:
    ttl: int
    process_ns: int
    kernel_ns: int = 0
    answered: bool = False

    @property
    def sent_ns(self) -> int:
        return self.kernel_ns or self.process_ns


@dataclass(frozen=True, slots=True)
class HopSummary:
    """One hop, in microseconds."""

    ttl: int
    address: str
    is_end: bool
    sent: int
    answered: int
    min_us: int | None
    p50_us: int | None
    p95_us: int | None
    others: tuple[
        str, ...
    ] = ()  # who else answered at this TTL: balanced packet by packet, or a change of route
    rate_limited: bool = False  # answered seldom while a later hop always did
    mpls: str = ""  # label/TC/S/TTL of each label, outermost first
    rewritten: str = ""  # "address port" that the probe was going to here, where it is not what was sent
    traffic_class: int | None = None  # of the probe as it came in here; None = not known


@dataclass(slots=True)
class _Hop:
    addresses: Counter[str] = field(default_factory=Counter)
    rtts_ns: list[int] = field(default_factory=list)
    sent: int = 0
    mpls: str = ""
    rewritten: str = ""
    traffic_class: int | None = None


class HopTracer:
    """The probes of one trace and what came back."""

    def __init__(self, target: Target, max_ttl: int, sent_to: tuple[str, int] | None = None) -> None:
        self.limit = max_ttl  # shrinks to the end's TTL once that is known
        self.unmatched = 0  # ICMP errors that name none of our probes
        self.malformed = 0  # ICMP extensions that cannot be read
        self._target = target
        self._sent_to = sent_to  # what routers should quote; None where the kernel would not tell another
        self._end: int | None = None
        self._sent: dict[int, _Sent] = {}
        self._hops = {ttl: _Hop() for ttl in range(1, max_ttl + 1)}

    def probe(self, ttl: int, now_ns: int) -> tuple[bytes, OnSent]:
        """The next probe for ``ttl``, and whom to tell its kernel stamp."""
        sequence = len(self._sent) + 1
        sent = self._sent[sequence] = _Sent(ttl, now_ns)
        self._hops[ttl].sent += 1

        def on_sent(stamp_ns: int) -> None:
            sent.kernel_ns = stamp_ns

        return self._target.probe(sequence), on_sent

    def on_icmp(self, error: IcmpError) -> None:
        """A router answered."""
        sequence = self._target.sequence_of(error.quoted) or self._only_outstanding(error)
        sent = self._sent.get(sequence) if sequence is not None else None
        if sent is None or error.type != TIME_EXCEEDED[error.v6]:
            self.unmatched += 1
            return
        self._answer(sent, error.router, error.received_ns - sent.sent_ns)
        self._read_quote(self._hops[sent.ttl], error)

    def on_quoted(self, seen: QuotedDatagram) -> None:
        """A router's answer with the IP header that it quoted: to whichever program, seldom to this one."""
        sequence = self._target.sequence_of(seen.payload)
        sent = self._sent.get(sequence) if sequence is not None else None
        if sent is not None:
            self._hops[sent.ttl].traffic_class = seen.traffic_class

    def router(self, ttl: int) -> str:
        """Address of who answered at ``ttl``, as far as is known yet."""
        addresses = self._hops[ttl].addresses
        return addresses.most_common(1)[0][0] if addresses else UNKNOWN

    def on_end(self, sequence: int, arrival: Arrival, *, reflecting_ns: int = 0) -> bool:
        """The end answered, after holding the probe for ``reflecting_ns``; False if to none of ours."""
        sent = self._sent.get(sequence)
        if sent is None or not 0 <= reflecting_ns < MOST_REFLECTING_NS:
            return False
        self._end = min(self._end or sent.ttl, sent.ttl)
        self.limit = min(self.limit, self._end)
        self._answer(sent, self._target.address, arrival.received_ns - sent.sent_ns - reflecting_ns)
        return True

    def summary(self) -> list[HopSummary]:
        """The hops up to the end, or to the last that answered."""
        heard = [ttl for ttl, hop in self._hops.items() if hop.rtts_ns]
        last = self._end or max(heard, default=0)
        return [self._hop(ttl, self._hops[ttl]) for ttl in range(1, last + 1)]

    def _hop(self, ttl: int, hop: _Hop) -> HopSummary:
        ordered = sorted(hop.rtts_ns)
        ranked = [address for address, _ in hop.addresses.most_common()]
        return HopSummary(
            ttl=ttl,
            address=ranked[0] if ranked else "",
            is_end=ttl == self._end,
            sent=hop.sent,
            answered=len(ordered),
            min_us=_us_at(ordered, 0),
            p50_us=_us_at(ordered, 50),
            p95_us=_us_at(ordered, 95),
            others=tuple(sorted(ranked[1:])),
            rate_limited=self._is_rate_limited(ttl, hop),
            mpls=hop.mpls,
            rewritten=hop.rewritten,
            traffic_class=hop.traffic_class,
        )

    def _is_rate_limited(self, ttl: int, hop: _Hop) -> bool:
        """The way to a later hop leads through this one: what that one always answered was not lost here."""
        later = (self._hops[after] for after in range(ttl + 1, self.limit + 1))
        return 0 < len(hop.rtts_ns) < hop.sent and any(
            after.sent and len(after.rtts_ns) == after.sent for after in later
        )

    def _read_quote(self, hop: _Hop, error: IcmpError) -> None:
        if error.destination is not None and self._sent_to not in (None, error.destination):
            hop.rewritten = f"{error.destination[0]} {error.destination[1]}"
        try:
            labels = labels_of(error.quoted, error.extension_at, headers=HEADERS[error.v6])
        except ExtensionError:
            self.malformed += 1
            return
        if labels:
            hop.mpls = " ".join(map(str, labels))

    def _answer(self, sent: _Sent, address: str, rtt_ns: int) -> None:
        if sent.answered or rtt_ns < 0:
            return
        sent.answered = True
        hop = self._hops[sent.ttl]
        hop.addresses[address] += 1
        hop.rtts_ns.append(rtt_ns)

    def _only_outstanding(self, error: IcmpError) -> int | None:
        """The probe meant by an error that quotes only the UDP header, if there is but one it can mean."""
        if error.quoted:
            return None
        waiting = [
            sequence
            for sequence, sent in self._sent.items()
            if not sent.answered and 0 <= error.received_ns - sent.sent_ns < OUTSTANDING_NS
        ]
        return waiting[0] if len(waiting) == 1 else None


async def run(
    tracer: HopTracer,
    plan: ProbePlan,
    send: Callable[[bytes, int, OnSent], bool],
    *,
    wall_ns: Callable[[], int],
    loop_time: Callable[[], float],
    ledger: RouterLedger | None = None,
    patience_s: float = PATIENCE_S,
) -> None:
    """Send the plan's rounds, every TTL once a round, evenly spread, as far as the ledger lets them.

    Each TTL goes its own way, so that waiting for a router that another test has just asked holds up none but
    that one. What finds no room within ``patience_s`` after the last round is not sent.
    """
    begin_s = loop_time()
    interval_s = min(plan.hop_interval_us / 1e6, SINGLE_ROUND_S if plan.hop_rounds == 1 else math.inf)
    until_s = begin_s + plan.hop_rounds * interval_s + patience_s
    ledger = ledger or RouterLedger()
    rounds = _Rounds(tracer, plan, send, wall_ns, loop_time, ledger, begin_s, until_s, interval_s)
    async with asyncio.TaskGroup() as ttls:
        for ttl in range(1, plan.max_ttl + 1):
            ttls.create_task(rounds.of(ttl))
    await asyncio.sleep(LAST_WAIT_S)


@dataclass(frozen=True, slots=True)
class _Rounds:
    tracer: HopTracer
    plan: ProbePlan
    send: Callable[[bytes, int, OnSent], bool]
    wall_ns: Callable[[], int]
    loop_time: Callable[[], float]
    ledger: RouterLedger
    begin_s: float
    until_s: float
    interval_s: float  # between rounds

    async def of(self, ttl: int) -> None:
        """All probes of one TTL."""
        for round_ in range(self.plan.hop_rounds):
            if ttl > self.tracer.limit:
                return
            planned_s = self.begin_s + (round_ + (ttl - 1) / self.tracer.limit) * self.interval_s
            router = self.tracer.router(ttl)
            from_ns = max(_ns(planned_s), _ns(self.loop_time()))
            at_ns = self.ledger.reserve(ttl, router, from_ns=from_ns, until_ns=_ns(self.until_s))
            if at_ns is None:
                return
            await asyncio.sleep(max(0.0, at_ns / 1e9 - self.loop_time()))
            while held_ns := self.ledger.held_ns(ttl, router, _ns(self.loop_time())):  # noqa: ASYNC110  # for a time
                await asyncio.sleep(held_ns / 1e9)
            if ttl > self.tracer.limit:
                return
            probe, on_sent = self.tracer.probe(ttl, self.wall_ns())
            self.send(probe, ttl, on_sent)
            self.ledger.asked(ttl, router, _ns(self.loop_time()))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _us_at(ordered: list[int], percent: int) -> int | None:
    return round(percentile(ordered, percent) / 1000) if ordered else None
