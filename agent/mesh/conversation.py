"""One measurement over one secured link: what this end asks, in phases, and how it answers the peer.

::

    Start      both ends are ready                   a probe sent earlier would count as lost
    probes     requests both ways, answered at once  beside them the hops, which are no probes
    Finished   what did you receive, and when did you really send the replies?
    trains     first the controlling end's, then, after YourTurn, the other's; with probes of their own
    receipts   where the order asks for them: Over, then each end signs its reading and the other's
    Done       neither end leaves before the other has all it needs
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec

from agent.errors import GrantSpentError, PeerSilentError
from agent.mesh import probe, train
from agent.mesh.budget import Budget
from agent.mesh.channel import Channel
from agent.mesh.climb import Climbed
from agent.mesh.dispersion import unknown
from agent.mesh.measured import Measured, spread
from agent.mesh.oneway import above_least, one_way
from agent.mesh.packet import (
    MOST_WHY,
    TOKEN_BYTES,
    Answer,
    Ask,
    Counters,
    Done,
    Finished,
    Kind,
    Noted,
    Over,
    Probe,
    Raw,
    RawKind,
    ReceiptPart,
    SentStamp,
    Start,
    Started,
    TrainComing,
    TrainReady,
    TrainResult,
    TrainSent,
    Witnessed,
    YourTurn,
)
from agent.mesh.probe import Requester
from agent.mesh.receipt import LAYOUT, Reason, Seen, Signing, Told, common_layout
from agent.mesh.reflector import Reflector
from agent.mesh.refusals import Refusal, Refusals
from agent.mesh.stamps import Arrival
from agent.mesh.times import Clock, wall_error_us
from agent.mesh.trace import Known, Trace
from agent.mesh.train import TrainReceiver
from analytics.measurement import Reading, Receipt
from analytics.wire import ProbePlan, TestOrder

PEER_TURN_S: Final = 20.0  # the peer's probes, hops and trains after ours
FAREWELL_S: Final = 3.0
MOST_STAMP_ASKS: Final = 64


class Conversation:
    """One measurement over one link: what this end asks, and how it answers."""

    def __init__(
        self,
        climbed: Climbed,
        order: TestOrder,
        clock: Clock,
        *,
        budget: Budget,
        known: Known | None = None,
        signing: Signing | None = None,
        clock_error_us: Callable[[], int | None] = wall_error_us,
        most_bytes: int | None = None,  # that the grant allows; None: not limited
    ) -> None:
        self._rung = climbed.rung
        self._link = climbed.link
        self._wire = climbed.link.wire
        self._plan: ProbePlan = order.plan
        self._controlling = order.controlling
        self._clock = clock
        self._budget = budget
        self._clock_error_us = clock_error_us
        self._loop_time = asyncio.get_running_loop().time
        self._requester = Requester(clock)
        self._reflector = Reflector(clock)
        self._trace = Trace(
            climbed.link,
            _end_address(climbed),
            order,
            clock,
            known=known or Known(),
            loop_time=self._loop_time,
        )
        self._trains: dict[int, TrainReceiver] = {}
        self._spent = False
        self._signing = signing
        self._layout = 0  # of the readings that both ends sign; 0 = none
        self._told: set[Told] = set()
        self._most_kbps: int | None = None  # of the peer's trains, as told
        self._token = os.urandom(TOKEN_BYTES)
        self._peer_token = b""
        self._peer_started = asyncio.Event()
        self._peer_finished = asyncio.Event()
        self._my_turn = asyncio.Event()
        self._peer_over = asyncio.Event()
        self._peer_done = asyncio.Event()
        self._channel = Channel(climbed.link)
        self._most_bytes = most_bytes
        if most_bytes is not None:
            self._wire.limit.set(self._wire.sent_bytes + most_bytes, self._on_spent)
        self._channel.on_probe = self._on_probe
        self._channel.on_ask = self._on_ask
        self._answers: dict[type[Ask], Callable[[Any], Answer]] = {
            Start: self._on_start,
            Finished: self._on_finished,
            TrainComing: self._on_train_coming,
            TrainSent: self._on_train_sent,
            YourTurn: self._on_your_turn,
            Over: self._on_over,
            ReceiptPart: self._on_receipt_part,
            Done: self._on_done,
        }
        self._channel.on_raw = {
            RawKind.HOP_PROBE: self._on_hop_probe,
            RawKind.HOP_REPLY: self._trace.on_reply,
            RawKind.TRAIN: self._on_train,
        }

    @property
    def refused(self) -> int:
        """Packets refused so far, by DTLS or by the channel."""
        return self._link.refused + self._channel.refused + self._reflector.refused

    @property
    def refusals(self) -> Refusals:
        """Packets refused so far by the channel, by kind."""
        return self._channel.refusals

    async def measure(self) -> Measured:
        """Run the phases. Raises ``PeerSilentError``, and ``GrantSpentError`` where the grant is used up."""
        try:
            measured = await self._phases()
        except (PeerSilentError, TimeoutError) as error:
            if self._spent:
                raise self._grant_spent() from error
            raise
        if self._spent:
            raise self._grant_spent()
        return measured

    async def _phases(self) -> Measured:
        await self._begin()
        async with asyncio.TaskGroup() as both:
            both.create_task(
                probe.run(self._requester, self._plan, self._channel.send_probe, self._loop_time)
            )
            both.create_task(self._trace.run(self._token, self._peer_token))
        sent = self._requester.sent
        await self._trace.find_mtu(
            sent=sent,
            answered=self._requester.answered,
            rtt_us=self._requester.summary().percentiles_us.get(95),
        )
        counters = await self._ask_counters(sent)
        rtt, trips = self._requester.summary(), list(self._requester.trips)
        timers_late = sorted(self._requester.timers_late_ns)
        trains = await self._measure_capacity(sent)
        await (self._both_over() if self._layout else self._farewell())
        return Measured(
            sent=sent,
            counters=counters,
            rtt=rtt,
            one_way=one_way(trips, [self._clock_error_us(), counters.clock_error_us]),
            above=above_least(trips),
            timers_late=spread(timers_late),
            capacity=trains.found,
            loaded=spread([trip.rtt_ns for trip in trains.loaded]),
            sent_bytes=self._wire.sent_bytes,
            traced=replace(self._trace.summary(), class_arrived=counters.hop_class),
        )

    async def receipt(self, reading: Reading) -> Receipt | None:
        """Have the finished reading signed at both ends; None if no receipt is asked for.

        Never raises for reasons of the peer: the receipt says why it has one signature only.
        """
        if self._signing is None:
            return None
        why = Reason.SILENT if self._layout else Reason.NO_RECEIPTS
        alone = self._signing.sign(reading, why, self._layout or LAYOUT)
        if alone is None or not self._peer_over.is_set():
            return alone
        with contextlib.suppress(PeerSilentError):
            return await self._signing.offer(reading, alone, self._channel)
        return alone

    async def leave(self) -> None:
        """Let the peer have its receipt, too."""
        if self._layout:
            await self._farewell()

    # --- phases ---------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Wait until both ends can take probes: before that, a probe would count as lost."""
        await self._channel.ask(Start(self._token, LAYOUT if self._signing else 0), Started)
        await _wait(self._peer_started, PEER_TURN_S, "never began")

    async def _ask_counters(self, sent: int) -> Counters:
        """The peer's count of the first ``sent`` probes; on the way, every stamp that is still lacking."""
        for _ in range(MOST_STAMP_ASKS):
            lacking = self._requester.lacking
            counters = await self._channel.ask(Finished(sent, lacking), Counters)
            self._requester.on_earlier(SentStamp(*stamp) for stamp in counters.earlier)
            if self._requester.lacking in ([], lacking):
                break  # all are told, or the rest has none
        return counters

    async def _measure_capacity(self, sent: int) -> train.Trains:
        """One direction after the other, and never beside the probes of either end."""
        if self._plan.trains == 0:
            return train.Trains(unknown("not asked for"))
        if self._wire.transport is None:
            return train.Trains(unknown("a relay over TCP has no packet trains"))
        sender = train.TrainSender(
            self._plan,
            channel=self._channel,
            wire=self._wire,
            requester=self._requester,
            clock=self._clock,
        )
        try:
            await _wait(
                self._peer_finished if self._controlling else self._my_turn, PEER_TURN_S, "never finished"
            )
            found = await sender.run(self._budget)
            if self._controlling:
                await self._channel.ask(YourTurn(), Noted)
            await self._ask_counters(sent)  # for the stamps of the replies under load
        except (PeerSilentError, TimeoutError) as error:
            # The probes stand without it.
            return train.Trains(unknown(f"broke off: {error}"[:MOST_WHY]))
        return found

    async def _both_over(self) -> None:
        """Wait until neither end measures any more; a receipt that the peer sends says so, too."""
        with contextlib.suppress(PeerSilentError):
            if not self._peer_over.is_set():
                await self._channel.ask(Over(), Noted)
            await _wait(self._peer_over, PEER_TURN_S, "never ended")

    async def _farewell(self) -> None:
        """Stay until the peer has all it needs; that it is gone already is no error any more."""
        with contextlib.suppress(PeerSilentError):
            await self._channel.ask(Done(), Noted, within_s=FAREWELL_S)
            await _wait(self._peer_done, PEER_TURN_S, "never ended")

    def _on_spent(self) -> None:
        """Nothing leaves any more: what waits for an answer waits in vain."""
        self._spent = True
        self._channel.give_up(self._grant_spent())

    def _grant_spent(self) -> GrantSpentError:
        return GrantSpentError(f"stopped: the grant allows {self._most_bytes:,} bytes, and they are sent")

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
        self._layout = common_layout(ask.receipts) if self._signing else 0
        self._peer_started.set()
        return Started()

    def _on_finished(self, ask: Finished) -> Counters:
        self._peer_finished.set()
        counters = self._reflector.counters(ask.sent, ask.lacking)
        if ask.sent == self._plan.probes and len(self._told) < MOST_STAMP_ASKS:
            self._told.add(Told.of(counters))
        return msgspec.structs.replace(
            counters, clock_error_us=self._clock_error_us(), hop_class=self._trace.class_of_peer
        )

    def _on_your_turn(self, _ask: YourTurn) -> Noted:
        self._my_turn.set()
        return Noted()

    def _on_over(self, _ask: Over) -> Noted:
        self._peer_over.set()
        return Noted()

    def _on_receipt_part(self, part: ReceiptPart) -> Witnessed:
        self._peer_over.set()
        if self._signing is None:
            return Witnessed(settled=True, why=Reason.NOT_ASKED)
        return self._signing.witness(part, self._seen)

    def _seen(self) -> Seen:
        """What this end can hold the peer's reading against."""
        return Seen(
            told=self._told,
            rung=self._rung,
            rtt=self._requester.summary(),
            most_kbps=self._most_kbps,
            now_us=self._clock.wall_ns() // 1_000,
        )

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
        result = receiver.result(self._clock.wall_ns()) if receiver else TrainResult(settled=True)
        self._most_kbps = max(filter(None, (self._most_kbps, result.capacity_kbps)), default=None)
        return result

    def _on_train(self, raw: Raw, arrival: Arrival) -> bool:
        return any(receiver.on_datagram(raw, arrival) for receiver in self._trains.values())

    def _on_hop_probe(self, raw: Raw, arrival: Arrival) -> bool:
        if raw.token != self._token:
            return False
        self._wire.send(self._trace.reply(raw, arrival, token=self._peer_token))
        return True


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
