"""Where on the way: TTL-limited probes on the 5-tuple that the test itself uses.

All TTLs are interleaved, and none is used more often than once a second: routers limit the rate of their ICMP
errors, and a limit looks like loss. Nothing is sent beyond the TTL that reached the end. Routers answer with
ICMP time exceeded in the socket's error queue; the end answers by itself: the peer with a hop reply, a TURN
server with a STUN response.

Pure but for ``run``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from agent.mesh.packet import Raw, RawKind, quoted_raw
from agent.mesh.probe import MOST_REFLECTING_NS, percentile
from agent.mesh.stamps import Arrival, IcmpError, OnSent
from analytics.wire import ProbePlan

TIME_EXCEEDED: Final = {False: 11, True: 3}  # ICMP (RFC 792), ICMPv6 (RFC 4443)
LAST_WAIT_S: Final = 0.5
OUTSTANDING_NS: Final = 1_000_000_000


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


@dataclass(slots=True)
class _Hop:
    addresses: Counter[str] = field(default_factory=Counter)
    rtts_ns: list[int] = field(default_factory=list)
    sent: int = 0


class HopTracer:
    """The probes of one trace and what came back."""

    def __init__(self, target: Target, max_ttl: int) -> None:
        self.limit = max_ttl  # shrinks to the end's TTL once that is known
        self.unmatched = 0  # ICMP errors that name none of our probes
        self._target = target
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
        return HopSummary(
            ttl=ttl,
            address=hop.addresses.most_common(1)[0][0] if hop.addresses else "",
            is_end=ttl == self._end,
            sent=hop.sent,
            answered=len(ordered),
            min_us=_us_at(ordered, 0),
            p50_us=_us_at(ordered, 50),
            p95_us=_us_at(ordered, 95),
        )

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
) -> None:
    """Send the plan's rounds, every TTL once a round, evenly spread."""
    begin_s = loop_time()
    interval_s = plan.hop_interval_us / 1e6
    for round_ in range(plan.hop_rounds):
        spread_s = interval_s / tracer.limit
        for ttl in range(1, plan.max_ttl + 1):
            if ttl > tracer.limit:
                break
            await asyncio.sleep(max(0.0, begin_s + round_ * interval_s + (ttl - 1) * spread_s - loop_time()))
            probe, on_sent = tracer.probe(ttl, wall_ns())
            send(probe, ttl, on_sent)
    await asyncio.sleep(LAST_WAIT_S)


def _us_at(ordered: list[int], percent: int) -> int | None:
    return round(percentile(ordered, percent) / 1000) if ordered else None
