"""Two ends in one process over real loopback sockets, with a seeded bad network between them."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

import msgspec
import pytest

from agent.errors import GrantSpentError, PeerSilentError
from agent.mesh.budget import Budget
from agent.mesh.climb import Climbed
from agent.mesh.conversation import Conversation
from agent.mesh.ladder import Candidate
from agent.mesh.measured import Measured
from agent.mesh.packet import RAW_FIRST_BYTE, Kind, Probe, decode_message
from agent.mesh.pair import SystemClock
from agent.mesh.stamps import Arrival, OnSent, StampingLoop, StampingTransport
from agent.mesh.wires import DirectWire
from analytics import wire
from analytics.measurement import CapacityTrust, Rung, StampSource
from analytics.policy import most_sent
from analytics.wire import ProbePlan

T = TypeVar("T")
PLAN = ProbePlan(probes=200, interval_us=5_000, hop_rounds=1, trains=1)


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        return runner.run(main)


class PlainLink(asyncio.DatagramProtocol):
    """A link without DTLS on a loopback socket; ``fate`` says how often a message is sent, and how late."""

    relay_target = None

    def __init__(self) -> None:
        self.on_message: Callable[[bytes, Arrival, bool], None] | None = None
        self.on_raw: Callable[[bytes, Arrival], None] | None = None
        self.on_icmp: Any = None
        self.on_closed: Any = None
        self.refused = 0
        self.fate: Callable[[bytes], tuple[int, float]] = lambda _message: (1, 0.0)
        self.truth: list[tuple[int, int]] = []  # sequence of every request, and how often it was sent
        self.remote = Candidate("host", "127.0.0.1", 0)

    @classmethod
    async def open(cls) -> PlainLink:
        loop = asyncio.get_running_loop()
        _, link = await loop.create_datagram_endpoint(cls, local_addr=("127.0.0.1", 0))
        return link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(StampingTransport, transport)

    def join(self, other: PlainLink) -> None:
        self.remote = Candidate("host", *other.transport.get_extra_info("sockname"))
        self.wire = DirectWire(self.transport, (self.remote.address, self.remote.port))

    def datagram_received(self, data: bytes, addr: Any) -> None:
        arrival = cast(StampingLoop, asyncio.get_running_loop()).arrival
        assert arrival is not None
        if data[0] >= RAW_FIRST_BYTE:
            if self.on_raw is not None:
                self.on_raw(data, arrival)
        elif self.on_message is not None:
            self.on_message(data, arrival, False)

    def send(self, message: bytes, on_sent: OnSent | None = None) -> bool:
        copies, late_s = self.fate(message)
        packet = decode_message(message)
        # Requests after the plan's are the trains'.
        if isinstance(packet, Probe) and packet.kind is Kind.REQUEST and packet.sequence <= PLAN.probes:
            self.truth.append((packet.sequence, copies))
        for _ in range(copies):
            if late_s:
                asyncio.get_running_loop().call_later(late_s, self.wire.send, message)
            else:
                self.wire.send(message, on_sent)
        return True


async def converse(
    plan: ProbePlan, prepare: Callable[[PlainLink, PlainLink], None] = lambda _a, _b: None
) -> tuple[Measured, Measured, PlainLink, PlainLink]:
    a, b = await PlainLink.open(), await PlainLink.open()
    try:
        a.join(b)
        b.join(a)
        prepare(a, b)
        ends = [conversation(link, plan, link is a) for link in (a, b)]
        one, other = await asyncio.gather(*(end.measure() for end in ends))
        return one, other, a, b
    finally:
        a.transport.close()
        b.transport.close()


def conversation(
    link: PlainLink,
    plan: ProbePlan,
    controlling: bool,
    budget: Budget | None = None,
    most_bytes: int | None = None,
) -> Conversation:
    order = wire.TestOrder(
        test="t",
        cycle=1,
        peer="p",
        peer_fingerprint="",
        controlling=controlling,
        rungs=[],
        ice_servers=[],
        plan=plan,
    )
    climbed = Climbed(cast(Any, link), Rung.LAN, [], 0, 0)
    return Conversation(
        climbed, order, SystemClock(), budget=budget or Budget(100_000_000), most_bytes=most_bytes
    )


def test_a_clean_link_loses_nothing_and_is_stamped_by_the_kernel() -> None:
    one, other, *_ = run(converse(PLAN))
    for end in (one, other):
        assert end.sent == end.counters.received == PLAN.probes
        assert (end.counters.duplicated, end.counters.reordered) == (0, 0)
        assert end.rtt.stamps is StampSource.KERNEL
        assert (end.rtt.n, end.rtt.spoiled) == (PLAN.probes, 0)
        assert end.rtt.min_us is not None
        assert end.rtt.percentiles_us[50] < 500
        assert [hop.is_end for hop in end.traced.hops] == [True]
        assert end.capacity.trust is not CapacityTrust.NONE
        assert (end.counters.bursts, end.counters.runs) == (0, [])
        assert end.above is not None
        assert end.above.p50_us < 500
        assert end.timers_late is not None
        assert 0 <= end.timers_late.us(50) <= end.timers_late.us(99)


def test_loss_on_one_direction_is_never_attributed_to_the_other() -> None:
    dice = random.Random(4)

    def lose(_message: bytes) -> tuple[int, float]:
        return (0 if dice.random() < 0.2 else 1), 0.0

    one, other, a, _ = run(converse(PLAN, lambda a, _b: setattr(a, "fate", lose)))
    arrived = sum(copies for _, copies in a.truth)
    assert 0.7 * PLAN.probes < arrived < 0.9 * PLAN.probes
    assert (one.sent, one.counters.received) == (PLAN.probes, arrived)
    assert (other.sent, other.counters.received) == (PLAN.probes, PLAN.probes)
    assert one.rtt.spoiled == other.rtt.spoiled == 0
    lost = [sequence for sequence, copies in a.truth if not copies]
    told = [first + n for first, length in one.counters.runs for n in range(length)]
    assert 0 < len(told) <= len(lost) == PLAN.probes - arrived
    assert set(told) <= set(lost)
    assert one.counters.bursts == sum(sequence - 1 not in lost for sequence in lost)
    assert (other.counters.bursts, other.counters.runs) == (0, [])


def test_duplicates_and_reordering_are_counted_where_they_happen() -> None:
    dice = random.Random(8)

    def mangle(message: bytes) -> tuple[int, float]:
        packet = decode_message(message)
        if not isinstance(packet, Probe) or packet.kind is not Kind.REQUEST:
            return 1, 0.0
        roll = dice.random()
        return (2, 0.0) if roll < 0.1 else (1, 0.012 if roll > 0.9 else 0.0)

    one, other, a, _ = run(converse(PLAN, lambda a, _b: setattr(a, "fate", mangle)))
    twice = sum(copies == 2 for _, copies in a.truth)
    assert one.counters.duplicated == twice > 0
    assert one.counters.reordered > 0
    assert one.counters.received == PLAN.probes
    assert (other.counters.duplicated, other.counters.reordered) == (0, 0)


def test_heavy_loss_both_ways_still_ends_with_both_counters() -> None:
    dice = random.Random(15)

    def lose(_message: bytes) -> tuple[int, float]:
        return (0 if dice.random() < 0.3 else 1), 0.0

    def both(a: PlainLink, b: PlainLink) -> None:
        a.fate = b.fate = lose

    one, other, a, b = run(converse(msgspec.structs.replace(PLAN, trains=0), both))
    for end, link in ((one, a), (other, b)):
        assert end.counters.received == sum(copies for _, copies in link.truth)
        assert end.rtt.n > 50


def test_every_byte_on_the_5_tuple_is_counted() -> None:
    got = {"a": 0, "b": 0}

    def count(a: PlainLink, b: PlainLink) -> None:
        for name, link in (("a", b), ("b", a)):  # what arrives at b was sent by a
            plain = link.datagram_received

            def received(data: bytes, addr: Any, name: str = name, plain: Any = plain) -> None:
                got[name] += len(data) + 28
                plain(data, addr)

            link.datagram_received = received  # type: ignore[method-assign]  # a tap on the wire

    one, other, *_ = run(converse(PLAN, count))
    # The last answers to Done leave after the count.
    assert got["a"] - 200 <= one.sent_bytes <= got["a"] + 200
    assert got["b"] - 200 <= other.sent_bytes <= got["b"] + 200
    assert one.sent_bytes > PLAN.probes * 2 * 76 + 120 * 1228


def test_without_budget_there_is_no_train_and_the_reading_says_why() -> None:
    async def main() -> list[Measured]:
        a, b = await PlainLink.open(), await PlainLink.open()
        a.join(b)
        b.join(a)
        few = msgspec.structs.replace(PLAN, probes=20)
        try:
            budgets = (Budget(100_000), Budget(300_000))
            ends = [conversation(a, few, True, budgets[0]), conversation(b, few, False, budgets[1])]
            found = await asyncio.gather(*(end.measure() for end in ends))
            assert budgets[0].left(time.monotonic_ns()) == 100_000
            assert budgets[1].left(time.monotonic_ns()) < 250_000
            return found
        finally:
            a.transport.close()
            b.transport.close()

    poor, rich = run(main())
    assert (poor.capacity.capacity_kbps, poor.capacity.trust) == (None, CapacityTrust.NONE)
    assert poor.capacity.why.startswith("no budget")
    assert rich.capacity.trust is not CapacityTrust.NONE
    assert poor.rtt.n == rich.rtt.n == 20


def test_a_peer_that_goes_silent_is_an_error_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.mesh.channel.ASK_GIVE_UP_S", 0.5)

    async def alone() -> None:
        a, b = await PlainLink.open(), await PlainLink.open()
        a.join(b)
        try:
            await conversation(a, PLAN, True).measure()
        finally:
            a.transport.close()
            b.transport.close()

    with pytest.raises(PeerSilentError, match="did not answer"):
        run(alone())


def test_garbage_is_refused_counted_and_harmless() -> None:
    refused: list[int] = []

    async def main() -> Measured:
        a, b = await PlainLink.open(), await PlainLink.open()
        a.join(b)
        b.join(a)
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ends = [conversation(link, PLAN, link is a) for link in (a, b)]
        target = b.transport.get_extra_info("sockname")
        for data in (b"\x00" * 40, b"\xc1" * 40, b"\xc3\x01\x00\x28" + bytes(36), b"\x01\x03\x00\x05\xff"):
            stranger.sendto(data, target)
        try:
            one, _ = await asyncio.gather(*(end.measure() for end in ends))
        finally:
            refused.append(ends[1].refused)
            a.transport.close()
            b.transport.close()
            stranger.close()
        return one

    assert run(main()).counters.received == PLAN.probes
    assert refused == [4]


def test_a_test_by_its_plan_stays_within_its_grant_and_one_that_would_not_stops_there() -> None:
    plan = ProbePlan(probes=40, interval_us=5_000, hop_rounds=1, trains=1)

    async def scenario(most_bytes: int) -> list[tuple[BaseException | None, int]]:
        a, b = await PlainLink.open(), await PlainLink.open()
        try:
            a.join(b)
            b.join(a)
            ends = [
                conversation(link, plan, link is a, most_bytes=most if link is a else most_sent(plan))
                for link, most in ((a, most_bytes), (b, most_bytes))
            ]
            tasks = [asyncio.create_task(end.measure()) for end in ends]
            await asyncio.wait(
                tasks,
                timeout=60,
                return_when=asyncio.FIRST_COMPLETED if most_bytes < 50_000 else asyncio.ALL_COMPLETED,
            )
            found = [
                (task.exception() if task.done() else None, link.wire.sent_bytes)
                for task, link in zip(tasks, (a, b), strict=True)
            ]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return found
        finally:
            a.transport.close()
            b.transport.close()

    for error, sent in run(scenario(most_sent(plan))):
        assert error is None
        assert sent < most_sent(plan)
    (error, sent), _ = run(scenario(3_000))
    assert isinstance(error, GrantSpentError)
    assert "the grant allows 3,000 bytes" in str(error)
    assert sent <= 3_000
