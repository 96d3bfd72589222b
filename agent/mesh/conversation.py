"""One measurement over one secured link: what this end asks, in phases, and how it answers the peer.

::

    Start      both ends are ready                   a probe sent earlier would count as lost
    probes     requests both ways, answered at once  beside them the hops, which are no probes
    Finished   what did you receive?
    trains     first the controlling end's, then, after YourTurn, the other's
    Done       neither end leaves before the other has all it needs
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agent.errors import PeerSilentError
from agent.mesh import hops, probe, train
from agent.mesh.channel import Channel
from agent.mesh.climb import Climbed
from agent.mesh.packet import (
    TOKEN_BYTES,
    Answer,
    Ask,
    Counters,
    Done,
    Finished,
    Kind,
    Noted,
    Probe,
    Raw,
    RawKind,
    SentStamp,
    Start,
    Started,
    TrainComing,
    TrainReady,
    TrainResult,
    TrainSent,
    YourTurn,
)
from agent.mesh.probe import Clock, Reflector, Requester
from agent.mesh.refusals import Refusal, Refusals
from agent.mesh.stamps import Arrival
from agent.mesh.train import TrainReceiver
from analytics.wire import ProbePlan, TestOrder

PEER_TURN_S: Final = 20.0  # the peer's probes, hops and trains after ours
FAREWELL_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Measured:
    """The numbers of this end's direction."""

    sent: int
    counters: Counters
    rtt: probe.RttSummary
    capacity: train.Estimate
    hops: list[hops.HopSummary]


class Conversation:
    """One measurement over one link: what this end asks, and how it answers."""

    def __init__(self, climbed: Climbed, order: TestOrder, clock: Clock) -> None:
        self._link = climbed.link
        self._wire = climbed.link.wire
        self._end_address = _end_address(climbed)
        self._plan: ProbePlan = order.plan
        self._controlling = order.controlling
        self._clock = clock
        self._loop_time = asyncio.get_running_loop().time
        self._requester = Requester(clock)
        self._reflector = Reflector(clock)
        self._tracer: hops.HopTracer | None = None
        self._trains: dict[int, TrainReceiver] = {}
        self._token = os.urandom(TOKEN_BYTES)
        self._peer_token = b""
        self._peer_started = asyncio.Event()
        self._peer_finished = asyncio.Event()
        self._my_turn = asyncio.Event()
        self._peer_done = asyncio.Event()
        self._channel = Channel(climbed.link)
        self._channel.on_probe = self._on_probe
        self._channel.on_ask = self._on_ask
        self._answers: dict[type[Ask], Callable[[Any], Answer]] = {
            Start: self._on_start,
            Finished: self._on_finished,
            TrainComing: self._on_train_coming,
            TrainSent: self._on_train_sent,
            YourTurn: self._on_your_turn,
            Done: self._on_done,
        }
        self._channel.on_raw = {
            RawKind.HOP_PROBE: self._on_hop_probe,
            RawKind.HOP_REPLY: self._on_hop_reply,
            RawKind.TRAIN: self._on_train,
        }

    @property
    def refused(self) -> int:
        """Packets refused so far, by DTLS or by the channel."""
        return self._link.refused + self._channel.refused

    @property
    def refusals(self) -> Refusals:
        """Packets refused so far by the channel, by kind."""
        return self._channel.refusals

    async def measure(self) -> Measured:
        """Run the phases. Raises ``PeerSilentError``."""
        await self._begin()
        async with asyncio.TaskGroup() as both:
            both.create_task(
                probe.run(self._requester, self._plan, self._channel.send_probe, self._loop_time)
            )
            both.create_task(self._trace())
        counters = await self._channel.ask(Finished(self._requester.sent), Counters)
        self._requester.on_earlier(SentStamp(*stamp) for stamp in counters.earlier)
        capacity = await self._measure_capacity()
        await self._farewell()
        return Measured(
            sent=self._requester.sent,
            counters=counters,
            rtt=self._requester.summary(),
            capacity=capacity,
            hops=self._tracer.summary() if self._tracer is not None else [],
        )

    # --- phases ---------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Wait until both ends can take probes: before that, a probe would count as lost."""
        await self._channel.ask(Start(self._token), Started)
        await _wait(self._peer_started, PEER_TURN_S, "never began")

    async def _trace(self) -> None:
        if self._wire.transport is None or self._plan.hop_rounds == 0:
            return  # a stream has no TTL
        target = self._link.relay_target or hops.PeerTarget(self._end_address, self._peer_token)
        tracer = self._tracer = hops.HopTracer(target, self._plan.max_ttl)
        self._link.on_icmp = tracer.on_icmp
        if self._link.relay_target is not None:
            self._link.relay_target.on_answer = tracer.on_end
        await hops.run(
            tracer,
            self._plan,
            lambda data, ttl, on_sent: self._wire.send_near(data, ttl=ttl, on_sent=on_sent),
            wall_ns=self._clock.wall_ns,
            loop_time=self._loop_time,
        )

    async def _measure_capacity(self) -> train.Estimate:
        """One direction after the other, and never beside the probes of either end."""
        if self._wire.transport is None or self._plan.trains == 0:
            return train.UNKNOWN
        try:
            await _wait(
                self._peer_finished if self._controlling else self._my_turn, PEER_TURN_S, "never finished"
            )
            found = await train.send_trains(
                self._plan,
                self._channel,
                self._wire.send_train,
                header_bytes=self._wire.header_bytes,
                monotonic_ns=self._clock.monotonic_ns,
            )
            if self._controlling:
                await self._channel.ask(YourTurn(), Noted)
        except (PeerSilentError, TimeoutError):
            return train.UNKNOWN  # the probes stand without it
        return found

    async def _farewell(self) -> None:
        """Stay until the peer has all it needs; that it is gone already is no error any more."""
        with contextlib.suppress(PeerSilentError):
            await self._channel.ask(Done(), Noted, within_s=FAREWELL_S)
            await _wait(self._peer_done, PEER_TURN_S, "never ended")

    # --- answers --------------------------------------------------------------------------------------------

    def _on_probe(self, packet: Probe, arrival: Arrival, copy: bool) -> None:
        if packet.kind is Kind.REQUEST:
            reply = self._reflector.on_request(packet, arrival, copy=copy)
            if reply is not None:
                self._channel.send_probe(*reply)
        elif not self._requester.on_reply(packet, arrival):
            self._channel.refuse(Refusal.UNSOLICITED)

    def _on_ask(self, ask: Ask) -> Answer:
        return self._answers[type(ask)](ask)

    def _on_start(self, ask: Start) -> Started:
        self._peer_token = ask.token
        self._peer_started.set()
        return Started()

    def _on_finished(self, _ask: Finished) -> Counters:
        self._peer_finished.set()
        seen = self._reflector
        earlier = [(stamp.sequence, stamp.sent_ns) for stamp in seen.earlier]
        return Counters(seen.received, seen.duplicated, seen.reordered, earlier)

    def _on_your_turn(self, _ask: YourTurn) -> Noted:
        self._my_turn.set()
        return Noted()

    def _on_done(self, _ask: Done) -> Noted:
        self._peer_done.set()
        return Noted()

    def _on_train_coming(self, coming: TrainComing) -> TrainReady:
        receiver = self._trains.get(coming.train)
        if receiver is None:
            receiver = TrainReceiver(
                coming, os.urandom(TOKEN_BYTES), self._wire.header_bytes, self._clock.wall_ns()
            )
            self._trains[coming.train] = receiver
        return TrainReady(receiver.token)

    def _on_train_sent(self, sent: TrainSent) -> TrainResult:
        receiver = self._trains.get(sent.train)
        return receiver.result(self._clock.wall_ns()) if receiver else TrainResult(settled=True)

    def _on_train(self, raw: Raw, arrival: Arrival) -> bool:
        return any(receiver.on_datagram(raw, arrival) for receiver in self._trains.values())

    def _on_hop_probe(self, raw: Raw, arrival: Arrival) -> bool:
        if raw.token != self._token:
            return False
        reply = hops.hop_reply(raw, arrival, token=self._peer_token, now_ns=self._clock.wall_ns())
        self._wire.send(reply)
        return True

    def _on_hop_reply(self, raw: Raw, arrival: Arrival) -> bool:
        if raw.token != self._token or self._tracer is None:
            return False
        return self._tracer.on_end(raw.sequence, arrival, reflecting_ns=raw.sent_ns - raw.received_ns)


def _end_address(climbed: Climbed) -> str:
    """Who is at the end of the 5-tuple: the peer's own address where its NAT's was used to reach it."""
    remote = climbed.link.remote
    if remote.type == "host":
        return remote.address
    behind = [c for c in climbed.theirs if c.type == "srflx" and c.address == remote.address]
    same_port = [c for c in behind if c.port == remote.port]
    return next((c.base for c in same_port or behind if c.base), remote.address)


async def _wait(event: asyncio.Event, within_s: float, what: str) -> None:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        raise PeerSilentError(f"the peer {what} within {within_s:.0f} s") from None
