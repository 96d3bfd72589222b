"""``test_pair`` whole, both ends in one process over loopback: ICE, DTLS, probes, farewell."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import aioice
import msgspec
import pytest

from agent import identity
from agent.mesh import ice, pair, probe
from agent.mesh.budget import Budget
from agent.mesh.packet import Probe
from agent.mesh.refusals import Refusal
from agent.mesh.stamps import OnSent, StampingLoop
from analytics import wire
from analytics.batch import check_batch, pack_batch
from analytics.measurement import Rung
from analytics.wire import Abandon, ProbePlan, RungOffer, RungResult, SignalBody
from tests.stopwatch import Stopwatch

PLAN = ProbePlan(probes=60, interval_us=5_000, hop_rounds=1, trains=0)
A, B = identity.create("a"), identity.create("b")
ADDRESS = {"a": "127.0.0.2", "b": "127.0.0.3"}


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        return runner.run(main)


class Queues:
    """Signalling within the process; ``tamper`` may change what is received."""

    def __init__(self, inbox: asyncio.Queue[SignalBody], outbox: asyncio.Queue[SignalBody]) -> None:
        self._inbox, self._outbox = inbox, outbox
        self.tamper: Callable[[SignalBody], SignalBody] = lambda body: body

    async def send(self, body: SignalBody) -> None:
        await self._outbox.put(body)

    async def receive(self) -> SignalBody:
        return self.tamper(await self._inbox.get())


def queues() -> tuple[Queues, Queues]:
    one: asyncio.Queue[SignalBody] = asyncio.Queue()
    other: asyncio.Queue[SignalBody] = asyncio.Queue()
    return Queues(one, other), Queues(other, one)


def test_both_ends_judge_the_candidates_that_were_offered() -> None:
    async def scenario() -> None:
        found = [f"f{n} 1 udp 1 10.0.0.{n} 5000 typ host" for n in range(1, 41)]
        found.append("f41 1 udp 1 192.0.2.7 5000 typ srflx raddr 10.0.0.1 rport 5000")
        connection = ice._Connection(None, ice_controlling=True)
        connection._local_candidates = [aioice.Candidate.from_sdp(sdp) for sdp in found]
        attempt = ice.Attempt(connection, controlling=True)
        offer = attempt.offer(Rung.SRFLX)
        assert [candidate.sdp for candidate in attempt.candidates] == offer.candidates
        assert (len(offer.candidates), attempt.candidates[0].type) == (32, "srflx")
        assert msgspec.json.decode(msgspec.json.encode(offer), type=RungOffer) == offer

    run(scenario())


def end(
    me: identity.Identity, peer: identity.Identity, signalling: Queues, **order: Any
) -> Coroutine[Any, Any, pair.PairResult]:
    defaults: dict[str, Any] = {
        "test": "t1",
        "cycle": 1,
        "peer": peer.name,
        "peer_fingerprint": peer.fingerprint,
        "controlling": me.name == "a",
        "rungs": [Rung.LAN, Rung.IPV6, Rung.SRFLX, Rung.RELAY_UDP, Rung.RELAY_TCP],
        "ice_servers": [],
        "plan": PLAN,
        "deadline_us": 20_000_000,
    }
    return pair.test_pair(
        wire.TestOrder(**(defaults | order)),
        me=me.name,
        tenant="default",
        identity=me,
        signalling=signalling,
        clock=pair.SystemClock(),
        budget=Budget(100_000_000),
        addresses=[ADDRESS[me.name]],
    )


def sockets() -> int:
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))  # noqa: PTH208  # no paths needed
    return sum(os.path.exists(link) and "socket:" in os.readlink(link) for link in links)  # noqa: PTH110, PTH115


async def both(**orders: Any) -> tuple[pair.PairResult, pair.PairResult]:
    to_a, to_b = queues()
    one, other = await asyncio.gather(end(A, B, to_a, **orders), end(B, A, to_b, **orders))
    return one, other


def test_both_ends_measure_their_own_direction_and_leave_no_socket() -> None:
    async def main() -> None:
        before = sockets()
        one, other = await both()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sockets() == before
        assert (one.reading.src, one.reading.dst) == ("a", "b")
        assert (other.reading.src, other.reading.dst) == ("b", "a")
        for result in (one, other):
            reading = result.reading
            assert reading.error == ""
            assert reading.rung is Rung.LAN
            assert reading.sent == reading.received == PLAN.probes
            assert reading.connect_us is not None
            assert reading.connect_us < 1_000_000
            assert reading.ended_us >= reading.started_us
            assert result.refused == 0
            assert [hop.is_end for hop in result.hops] == [1]

    run(main())


def test_a_rung_that_worked_last_time_and_is_broken_now_heals_by_itself() -> None:
    one, other = run(both(first_rung=Rung.SRFLX))
    for reading in (one.reading, other.reading):
        assert (reading.rung, reading.error) == (Rung.LAN, "")
        assert reading.rungs_failed.startswith("srflx: no answer from the STUN server")
        assert reading.connect_us is not None
        assert reading.connect_total_us is not None
        assert reading.connect_us <= reading.connect_total_us < 2_000_000


def test_what_comes_out_is_a_batch_the_server_takes() -> None:
    one, _ = run(both())
    body = pack_batch(
        agent="a", boot="0123abcd", batch=1, tables={"readings": [one.reading], "hops": one.hops}
    )
    assert check_batch(body).tables["readings"].rows == 1


def test_the_networks_duplicates_are_seen_through_dtls(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ice.DirectWire.send

    def twice(direct: ice.DirectWire, data: bytes, on_sent: OnSent | None = None) -> bool:
        if direct.address[0] == ADDRESS["b"]:
            plain(direct, data)
        return plain(direct, data, on_sent)

    monkeypatch.setattr(ice.DirectWire, "send", twice)
    one, other = run(both())
    assert one.reading.received == one.reading.duplicated == PLAN.probes
    assert (other.reading.received, other.reading.duplicated) == (PLAN.probes, 0)


def test_forged_packets_are_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ice.DirectWire.send
    forged = 0

    def with_forgery(direct: ice.DirectWire, data: bytes, on_sent: OnSent | None = None) -> bool:
        nonlocal forged
        if direct.address[0] == ADDRESS["b"] and data[0] == ice.DTLS_APPLICATION_DATA and forged < 10:
            forged += 1
            number = (2**40 + forged).to_bytes(6, "big")
            plain(direct, data[:5] + number + data[11:])
        return plain(direct, data, on_sent)

    monkeypatch.setattr(ice.DirectWire, "send", with_forgery)
    one, other = run(both())
    assert forged == 10
    assert other.refused == 10
    assert other.refusals == {Refusal.FORGED: 10}
    assert one.reading.received == other.reading.received == PLAN.probes


def test_what_is_of_no_kind_is_unsolicited(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ice.DirectWire.send
    sent = 0

    def with_noise(direct: ice.DirectWire, data: bytes, on_sent: OnSent | None = None) -> bool:
        nonlocal sent
        if direct.address[0] == ADDRESS["b"] and data[0] == ice.DTLS_APPLICATION_DATA and sent < 10:
            sent += 1
            plain(direct, b"\x80 an RTP packet, say")
        return plain(direct, data, on_sent)

    monkeypatch.setattr(ice.DirectWire, "send", with_noise)
    one, other = run(both())
    assert other.refusals == {Refusal.UNSOLICITED: 10}
    assert one.reading.received == other.reading.received == PLAN.probes


@pytest.mark.parametrize("deceived", ["a", "b"])
def test_a_wrong_fingerprint_on_either_side_gives_no_reading_on_both(deceived: str) -> None:
    wrong = identity.create("x").fingerprint

    async def main() -> None:
        to_a, to_b = queues()
        orders = {name: {"peer_fingerprint": wrong} if name == deceived else {} for name in "ab"}
        watch = Stopwatch()
        one, other = await asyncio.gather(end(A, B, to_a, **orders["a"]), end(B, A, to_b, **orders["b"]))
        assert watch.took_s < 3
        for result in (one, other):
            assert result.reading.rung is Rung.NONE
            assert "certificate" in result.reading.error
            assert (result.reading.sent, result.hops) == (0, [])

    run(main())


def test_an_unreachable_peer_is_a_result_with_reasons() -> None:
    def elsewhere(body: SignalBody) -> SignalBody:
        if not isinstance(body, RungOffer):
            return body
        line = "abc 1 udp 2130706431 127.0.0.9 1900 typ host"
        return RungOffer(rung=body.rung, ufrag=body.ufrag, password=body.password, candidates=[line])

    async def main() -> None:
        before = sockets()
        to_a, to_b = queues()
        to_a.tamper = to_b.tamper = elsewhere
        watch = Stopwatch()
        one, other = await asyncio.gather(end(A, B, to_a), end(B, A, to_b))
        assert watch.took_s < 3.5
        for result in (one, other):
            assert result.reading.rung is Rung.NONE
            assert result.reading.error == ""
            assert "lan: no answer" in result.reading.rungs_failed
            assert "relay-tcp: no relay address" in result.reading.rungs_failed
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sockets() == before

    run(main())


def test_checks_from_ever_new_addresses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a peer, or by the server, which has seen the passwords of both ends."""

    class Protocol:
        local_candidate = aioice.Candidate("f", 1, "udp", 1, "127.0.0.1", 4_000, "host")

        def send_stun(self, *_: object) -> None:
            """Nobody listens."""

    async def main() -> None:
        connection = ice._Connection(None, ice_controlling=True)
        monkeypatch.setattr(connection, "check_start_task", lambda pair: None)
        connection.remote_username = "peer"
        message = ice.stun.Message(ice.stun.Method.BINDING, ice.stun.Class.REQUEST)
        message.attributes["USERNAME"] = f"{connection.local_username}:peer"
        message.add_message_integrity(connection.local_password.encode())
        connection.request_received(message, ("192.0.2.1", 5_000), Protocol())
        assert connection.dropped == 1  # without a priority
        message = ice.stun.Message(ice.stun.Method.BINDING, ice.stun.Class.REQUEST)
        message.attributes |= {"USERNAME": f"{connection.local_username}:peer", "PRIORITY": 7}
        message.add_message_integrity(connection.local_password.encode())
        for early in (True, False):
            connection._early_checks_done = not early
            for port in range(1_024, 3_024):
                connection.request_received(message, ("192.0.2.1", port), Protocol())
            assert len(connection._early_checks) <= 100  # aioice keeps the latest
        assert len(connection._remote_candidates) == len(connection._check_list) == ice.MOST_REMOTE

    run(main())


def test_an_address_that_no_agent_has_is_not_sent_to() -> None:
    """DNS of this very host, by the word of whoever relays the offers."""

    def inside(body: SignalBody) -> SignalBody:
        line = "abc 1 udp 2130706431 127.0.0.1 53 typ host"
        return msgspec.structs.replace(body, candidates=[line]) if isinstance(body, RungOffer) else body

    async def main() -> pair.PairResult:
        to_a, to_b = queues()
        to_a.tamper = inside
        one, _ = await asyncio.gather(end(A, B, to_a), end(B, A, to_b))
        return one

    assert "the peer offered what no agent has" in run(main()).reading.error


def test_a_peer_that_says_nothing_ends_at_the_deadline() -> None:
    async def main() -> pair.PairResult:
        to_a, _ = queues()
        return await end(A, B, to_a, deadline_us=1_000_000)

    watch = Stopwatch()
    reading = run(main()).reading
    assert watch.took_s < 2
    assert "did not end within 1 s" in reading.error
    assert reading.rung is Rung.NONE


@pytest.mark.parametrize(
    "body", [Abandon(why="switched off"), RungResult(rung=Rung.LAN, ok=True), "damaged"], ids=str
)
def test_a_peer_that_is_out_of_step_is_an_error(body: Any) -> None:
    async def main() -> pair.PairResult:
        to_a, to_b = queues()
        if body == "damaged":
            body_ = RungOffer(rung=Rung.LAN, ufrag="abcd", password="x" * 22, candidates=["not a candidate"])
        else:
            body_ = body
        await to_b.send(body_)
        result = await end(A, B, to_a)
        assert isinstance(await to_b.receive(), RungOffer)
        assert isinstance(await to_b.receive(), Abandon)
        return result

    assert run(main()).reading.error.startswith("the peer")


@pytest.fixture
def probing(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set as soon as an end is in the middle of its probes."""
    event, plain = asyncio.Event(), probe.Requester.request

    def request(requester: probe.Requester, *, timer_late_ns: int = 0) -> tuple[Probe, OnSent]:
        if requester.sent == PLAN.probes // 2:
            event.set()
        return plain(requester, timer_late_ns=timer_late_ns)

    monkeypatch.setattr(probe.Requester, "request", request)
    return event


def test_cancellation_frees_everything(probing: asyncio.Event) -> None:
    async def main() -> None:
        before = sockets()
        to_a, to_b = queues()
        ends = [asyncio.create_task(coroutine) for coroutine in (end(A, B, to_a), end(B, A, to_b))]
        await probing.wait()
        for task in ends:
            task.cancel()
        done = await asyncio.gather(*ends, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in done)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sockets() == before
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_it_needs_the_stamping_loop() -> None:
    async def main() -> None:
        to_a, _ = queues()
        with pytest.raises(RuntimeError, match="StampingLoop"):
            await end(A, B, to_a)

    asyncio.run(main())


def test_icmp_and_stamps_come_from_the_kernel() -> None:
    class Catcher(asyncio.DatagramProtocol):
        arrived: asyncio.Future[Any]

        def datagram_received(self, data: bytes, addr: Any) -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, StampingLoop)
            self.arrived.set_result(loop.arrival)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(Catcher, local_addr=("127.0.0.1", 0))
        protocol.arrived = loop.create_future()
        unreachable = loop.create_future()
        transport.on_icmp = unreachable.set_result  # type: ignore[attr-defined]  # a StampingTransport
        sent: list[int] = []
        before_ns = time.time_ns()
        own = transport.get_extra_info("sockname")
        transport.send(b"hello", own, ttl=9, on_sent=sent.append)  # type: ignore[attr-defined]
        arrival = await asyncio.wait_for(protocol.arrived, 30)
        assert arrival.kernel
        assert arrival.ttl == 9
        assert before_ns <= sent[0] <= arrival.received_ns <= time.time_ns()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            nobody = closed.getsockname()
        transport.sendto(b"anyone?", nobody)
        error = await asyncio.wait_for(unreachable, 30)
        assert (error.type, error.code, error.router) == (3, 3, "127.0.0.1")
        assert error.quoted == b"anyone?"
        transport.close()

    run(main())


def test_a_peer_that_leaves_in_the_middle_is_an_error_on_the_rung_that_stood(probing: asyncio.Event) -> None:
    async def main() -> pair.PairResult:
        to_a, to_b = queues()
        leaving = asyncio.create_task(end(B, A, to_b))
        staying = asyncio.create_task(end(A, B, to_a))
        await probing.wait()
        leaving.cancel()
        return await staying

    reading = run(main()).reading
    assert "the peer closed the connection" in reading.error
    assert reading.rung is Rung.LAN
    assert (reading.sent, reading.rtt_n) == (0, 0)
