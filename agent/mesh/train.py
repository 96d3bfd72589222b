"""Packet trains: how long the next one is, sending it, taking it in, and what both ends make of it.

::

    announced     the peer says by what token it knows the train
    lead probes   the least forward delay, right before
    train         datagrams of one length, back to back; behind it probes, which queue as anything would
    asked         the peer's estimate from its kernel's receive stamps (``dispersion``)

The first train is no longer than what a TCP connection or two open with, so that a slow path is not flooded;
the next ones are longer as far as the path was fast. The longest one that says anything counts. Here it is
checked against what only the sender knows: how fast the train was sent, and when it could have arrived at the
earliest.

Pure but for ``TrainSender``.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.mesh import probe
from agent.mesh.budget import Budget
from agent.mesh.channel import Channel
from agent.mesh.dispersion import PILED_UP, UNKNOWN, Estimate, estimate, unknown
from agent.mesh.packet import Raw, RawKind, TrainComing, TrainReady, TrainResult, TrainSent
from agent.mesh.probe import Requester, RoundTrip
from agent.mesh.stamps import MAX_SEGMENTED, MAX_SEGMENTS, Arrival, SentTrain
from agent.mesh.times import Clock
from agent.mesh.wires import Wire
from analytics.measurement import CapacityTrust
from analytics.wire import ProbePlan

SIZES: Final = (16, 32)  # packets of the trains before the plan's own, on a path that is not fast
GROWTH: Final = 1.5  # a train that is not clearly longer tells nothing new
MOST_TRAIN_NS: Final = 250_000_000  # that a train may fill the path for
FAST_KBPS: Final = 300_000  # above, one system call a packet is too slow
FAST_REPEATS: Final = 2  # trains for each of the plan's, as they are shorter
MOST_BYTES: Final = 190_000  # of one of the plan's trains and those before it; with the probes, below 250 kB

SENDER_MARGIN: Final = 0.7  # found faster than this part of the send rate: the sender was the limit
EARLY_MARGIN: Final = 1.15  # found faster than what got through since the train was sent: it had piled up
IDLE_NS: Final = 300_000_000  # nothing for so long: the train is in
FIRST_WAIT_NS: Final = 2_000_000_000  # and so long if nothing came at all
POLL_S: Final = 0.2
RESULT_WITHIN_S: Final = 12.0  # 250 kB at 200 kbit/s

LEAD_PROBES: Final = 4
LEAD_INTERVAL_S: Final = 0.004
LOAD_PROBES: Final = 16
LOAD_INTERVALS_S: Final = (0.001, 0.016)  # least (of asyncio's timers) and most
LOAD_INTERVAL_S: Final = 0.004  # where nothing is known yet
LEAST_LOADED: Final = 5  # round trips within one train, to say anything of them


# --- receiving ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class TrainReceiver:
    """Collects one announced train."""

    coming: TrainComing
    token: bytes
    header_bytes: int
    announced_ns: int
    _arrivals: dict[int, int] = field(default_factory=dict)  # index -> stamp, in order of arrival
    _kernel: bool = True
    _last_ns: int = 0

    def on_datagram(self, raw: Raw, arrival: Arrival) -> bool:
        """Take a datagram; False if it is not of this train."""
        coming = self.coming
        if raw.token != self.token or raw.sequence >= coming.packets or raw.length != coming.length:
            return False
        self._arrivals.setdefault(raw.sequence, arrival.received_ns)
        self._kernel &= arrival.kernel
        self._last_ns = arrival.received_ns
        return True

    def result(self, now_ns: int) -> TrainResult:
        """What is known by now."""
        if not self._is_settled(now_ns):
            return TrainResult(settled=False)
        found = self._estimate()
        return TrainResult(
            settled=True,
            received=len(self._arrivals),
            capacity_kbps=found.capacity_kbps,
            trust=found.trust,
            why=found.why,
            first_ns=min(self._arrivals.values(), default=0),
            last_ns=max(self._arrivals.values(), default=0),
        )

    def _estimate(self) -> Estimate:
        if not self._kernel:
            return unknown("the kernel did not stamp the packets")
        length = self.coming.length + self.header_bytes
        return estimate(list(self._arrivals.items()), packets=self.coming.packets, packet_bytes=length)

    def _is_settled(self, now_ns: int) -> bool:
        if not self._arrivals:
            return now_ns - self.announced_ns > FIRST_WAIT_NS
        return len(self._arrivals) == self.coming.packets or now_ns - self._last_ns > IDLE_NS


# --- deciding -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Size:
    """Of a train to send."""

    packets: int
    chunk: int  # packets in one system call


@dataclass(frozen=True, slots=True)
class Sent:
    """A train on its way, by the sender's clocks."""

    packets: int
    packet_bytes: int  # with IP header
    left: SentTrain

    @property
    def rate_kbps(self) -> float:
        """How fast it left; infinite where one system call took it."""
        if not self.left.before:
            return math.inf
        return self.packet_bytes * 8e6 * self.left.before / max(1, self.left.span_ns)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One train: what was sent, what it says, and its probes."""

    sent: Sent
    result: TrainResult
    found: Estimate
    loaded: Sequence[RoundTrip] = ()  # probes that would have arrived during the train

    @property
    def rate_kbps(self) -> int:
        """Roughly how fast the path is; 0 if the train does not say."""
        took_ns = self.result.last_ns - self.result.first_ns
        if self.found.capacity_kbps is not None or self.result.received < 2:
            return self.found.capacity_kbps or 0
        return round((self.result.received - 1) * self.sent.packet_bytes * 8e6 / max(1, took_ns))


@dataclass(frozen=True, slots=True)
class Trains:
    """All trains of one direction."""

    found: Estimate
    outcomes: Sequence[Outcome] = ()

    @property
    def loaded(self) -> Sequence[RoundTrip]:
        """Round trips under load, of the longest train that shows enough; empty where none lasted so long.

        Not of the one with the most of them: as many are sent beside a short one, and it queues for less.
        Read late: some of their stamps are told after the trains.
        """
        each = [
            (outcome.sent.packets, [trip for trip in outcome.loaded if trip.good and trip.kernel])
            for outcome in self.outcomes
        ]
        enough = [(packets, trips) for packets, trips in each if len(trips) >= LEAST_LOADED]
        return max(enough, key=lambda one: (one[0], len(one[1])), default=(0, []))[1]


def next_size(plan: ProbePlan, packet_bytes: int, done: Sequence[Outcome]) -> Size | None:
    """How long the next train is; None if one more teaches nothing, or would be too much."""
    if not done:
        return Size(min(SIZES[0], plan.train_packets), 1)
    size = _next_size(plan, packet_bytes, done)
    packets = sum(one.sent.packets for one in done) + (size.packets if size else 0)
    return size if packets * packet_bytes <= _most_of(plan) else None


def _most_of(plan: ProbePlan) -> int:
    return MOST_BYTES * max(1, plan.trains)


def _next_size(plan: ProbePlan, packet_bytes: int, done: Sequence[Outcome]) -> Size | None:
    if done[-1].rate_kbps > FAST_KBPS:
        return _next_fast(plan, packet_bytes, done)
    most = plan.train_packets
    sizes = [*(size for size in SIZES if GROWTH * size <= most), *[most] * plan.trains]
    if len(done) >= len(sizes):
        return None
    before = done[-1].sent.packets
    fits = int(done[-1].rate_kbps * MOST_TRAIN_NS / (packet_bytes * 8e6))
    packets = min(sizes[len(done)], fits)
    return Size(packets, 1) if packets >= (most if before == most else GROWTH * before) else None


def _next_fast(plan: ProbePlan, packet_bytes: int, done: Sequence[Outcome]) -> Size | None:
    """What one system call takes (UDP GSO): a second call may come too late to keep the path busy."""
    packets = _fast_packets(plan, packet_bytes)
    sent = sum(one.sent.packets == packets for one in done)
    return Size(packets, packets) if sent < FAST_REPEATS * plan.trains else None


def _fast_packets(plan: ProbePlan, packet_bytes: int) -> int:
    return min(plan.train_packets, MAX_SEGMENTS, MAX_SEGMENTED // packet_bytes)


def most_bytes(plan: ProbePlan, packet_bytes: int) -> int:
    """What the trains of a plan take at most, on a path that turns out fast, then slow."""
    fast = FAST_REPEATS * _fast_packets(plan, packet_bytes)
    packets = sum(SIZES) + plan.trains * (fast + plan.train_packets)
    return min(packet_bytes * packets, _most_of(plan))


def judge(result: TrainResult, sent: Sent, least_forward_ns: int | None) -> Estimate:
    """The receiver's estimate, checked against what the sender knows.

    ``least_forward_ns``: of a probe right before, by both ends' clocks, so with their offset in it.
    """
    if not sent.left.whole:
        return unknown("this host's kernel did not take the train")
    if result.capacity_kbps is None:
        return unknown(result.why or "no packet of the train arrived")
    kbps = result.capacity_kbps
    through_kbps = _through_kbps(result, sent, least_forward_ns)
    least_kbps = kbps if through_kbps is None else min(kbps, through_kbps)
    if kbps > EARLY_MARGIN * least_kbps:
        return Estimate(least_kbps, CapacityTrust.AT_LEAST, result.why or PILED_UP)
    if kbps > SENDER_MARGIN * sent.rate_kbps:  # met no bottleneck slower than the sender itself
        return Estimate(least_kbps, CapacityTrust.AT_LEAST, result.why or "this host sent it no faster")
    measured = result.trust is CapacityTrust.MEASURED
    return Estimate(kbps if measured else least_kbps, result.trust, result.why)


def _through_kbps(result: TrainResult, sent: Sent, least_forward_ns: int | None) -> int | None:
    """Rate from the moment the train could have begun to arrive: what was held up cannot hide there."""
    if least_forward_ns is None:
        return None
    took_ns = max(result.last_ns - sent.left.began_ns - least_forward_ns, 1)
    return round(sent.packet_bytes * 8e6 * sent.packets / took_ns)


def best(outcomes: Sequence[Outcome]) -> Estimate:
    """What the longest trains say that say anything; of several, the median of the better trust."""
    told = [outcome for outcome in outcomes if outcome.found.capacity_kbps is not None]
    if not told:
        return outcomes[-1].found if outcomes else UNKNOWN
    longest = max(outcome.sent.packets for outcome in told)
    found = [outcome.found for outcome in told if outcome.sent.packets == longest]
    sure = [one for one in found if one.trust is CapacityTrust.MEASURED] or found
    middle = statistics.median(one.capacity_kbps for one in sure if one.capacity_kbps is not None)
    return Estimate(round(middle), sure[0].trust, sure[0].why)


def least_forward_ns(trips: Sequence[RoundTrip]) -> int | None:
    """Least T2 - T1 of probes whose stamps are the kernel's."""
    stamped = [trip.t2 - trip.t1 for trip in trips if trip.t4 and trip.kernel_received and trip.t1_kernel]
    return min(stamped, default=None)


def within(trips: Sequence[RoundTrip], result: TrainResult, forward_ns: int | None) -> list[RoundTrip]:
    """Those that would have arrived while the train did, had they not been held up."""
    if forward_ns is None:
        return []
    return [trip for trip in trips if result.first_ns <= trip.t1 + forward_ns <= result.last_ns]


# --- sending ------------------------------------------------------------------------------------------------


class TrainSender:
    """Sends the trains of one direction, and the probes before and behind each."""

    def __init__(
        self, plan: ProbePlan, *, channel: Channel, wire: Wire, requester: Requester, clock: Clock
    ) -> None:
        self._plan = plan
        self._channel = channel
        self._wire = wire
        self._requester = requester
        self._clock = clock
        self._loop_time = asyncio.get_running_loop().time
        self._packet_bytes = plan.train_bytes + wire.header_bytes
        self._spent = 0  # bytes of trains, also of one that was cut off

    async def run(self, budget: Budget) -> Trains:
        """Send them all. Raises ``PeerSilentError`` or ``TimeoutError``."""
        reserved = most_bytes(self._plan, self._packet_bytes)
        if not budget.take(self._clock.monotonic_ns(), reserved):
            return Trains(unknown(f"no budget: {budget.why_not}"))
        done: list[Outcome] = []
        try:
            while (size := next_size(self._plan, self._packet_bytes, done)) is not None:
                done.append(await self._train(len(done), size, done))
        finally:
            budget.give_back(reserved - self._spent)
        return Trains(best(done), done)

    async def _train(self, number: int, size: Size, done: Sequence[Outcome]) -> Outcome:
        coming = TrainComing(number, size.packets, self._plan.train_bytes)
        ready = await self._channel.ask(coming, TrainReady)
        before = len(self._requester.trips)
        await self._probe(LEAD_PROBES, LEAD_INTERVAL_S)
        self._spent += size.packets * self._packet_bytes
        left = self._wire.send_train(_datagrams(coming, ready.token), chunk=size.chunk)
        sent = Sent(size.packets, self._packet_bytes, left)
        behind = len(self._requester.trips)
        drain_s = size.packets * self._packet_bytes * 8e-3 / done[-1].rate_kbps if done else None
        result = await self._result_while_probing(number, drain_s)
        trips = self._requester.trips
        forward_ns = least_forward_ns(trips[before:behind])
        found = judge(result, sent, forward_ns)
        return Outcome(sent, result, found, within(trips[behind:], result, forward_ns))

    async def _result_while_probing(self, number: int, drain_s: float | None) -> TrainResult:
        least_s, most_s = LOAD_INTERVALS_S
        interval_s, probes = LOAD_INTERVAL_S, LOAD_PROBES
        if drain_s is not None:
            interval_s = min(max(least_s, drain_s / LOAD_PROBES), most_s)
            probes = min(LOAD_PROBES, 1 + int(drain_s / interval_s))
        probing = asyncio.create_task(self._probe(probes, interval_s))
        try:
            return await self._result(number)
        finally:
            probing.cancel()
            await asyncio.wait([probing])

    async def _probe(self, probes: int, interval_s: float) -> None:
        await probe.paced(self._requester, probes, interval_s, self._channel.send_probe, self._loop_time)

    async def _result(self, number: int) -> TrainResult:
        """Ask until the receiver calls the train in."""
        async with asyncio.timeout(RESULT_WITHIN_S):
            while True:
                result = await self._channel.ask(TrainSent(number), TrainResult)
                if result.settled:
                    return result
                await asyncio.sleep(POLL_S)


def _datagrams(coming: TrainComing, token: bytes) -> list[bytes]:
    return [
        Raw(RawKind.TRAIN, token, index, length=coming.length).encode() for index in range(coming.packets)
    ]
