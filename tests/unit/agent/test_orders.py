"""Orders: one test at a time, cancelled when told, its rows on disk before the server hears that it ended."""

import asyncio
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.errors import ServerSilentError, SignallingError
from agent.orders import MOST_ORDERS, MOST_SIGNALS, Link, Orders
from agent.outbox import Outbox
from analytics import wire
from analytics.batch import check_batch
from analytics.measurement import Hop, Reading, Receipt, Rung


@dataclass(frozen=True)
class Result:
    reading: Reading
    hops: list[Hop] = field(default_factory=list)
    refused: int = 0
    receipt: Receipt | None = None


def result_of(order: wire.TestOrder) -> Result:
    key: dict[str, Any] = {
        "tenant": "default",
        "cycle": order.cycle,
        "test": order.test,
        "src": "pacs",
        "dst": order.peer,
    }
    reading = Reading(**key, started_us=1, ended_us=2, rung=Rung.LAN)
    return Result(reading, [Hop(**key, ttl=1)], refused=3)


def order(test: str = "t1", peer: str = "hotel") -> wire.TestOrder:
    return wire.TestOrder(
        test=test, cycle=1, peer=peer, peer_fingerprint="", controlling=True, rungs=[Rung.LAN], ice_servers=[]
    )


class Bench:
    """Orders with a tester that the test holds in its hand: the network is left out, nothing else is."""

    def __init__(self, folder: Path) -> None:
        self.outbox = Outbox(folder, "pacs")
        self.said: asyncio.Queue[wire.FromAgent] = asyncio.Queue()
        self.started: asyncio.Queue[tuple[str, Link]] = asyncio.Queue()
        self.go_on = asyncio.Event()
        self.cancelled: list[str] = []
        self.orders = Orders(
            self.tester, self.outbox, self.say, cpu_us=iter(range(10_000, 20_000, 30)).__next__
        )

    async def say(self, message: wire.FromAgent) -> None:
        self.said.put_nowait(message)

    async def tester(self, asked: wire.TestOrder, link: Link) -> Result:
        self.started.put_nowait((asked.test, link))
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.append(asked.test)
            raise
        return result_of(asked)


Scenario = Callable[[Bench], Coroutine[None, None, None]]


@pytest.fixture
def with_bench(tmp_path: Path) -> Callable[[Scenario], None]:
    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            bench = Bench(tmp_path)
            async with asyncio.timeout(30):
                await scenario(bench)
                await bench.orders.close()

        asyncio.run(whole())

    return run


def test_the_server_hears_what_it_plans_the_next_cycle_by(
    with_bench: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(bench: Bench) -> None:
        measured = {"sent": 300, "received": 270, "rtt_p50_us": 41_000}
        made = result_of(order())
        reading = msgspec.structs.replace(made.reading, **measured, error="broke off")
        monkeypatch.setitem(globals(), "result_of", lambda _asked: Result(reading, [], refused=0))
        bench.orders.take(order())
        bench.go_on.set()
        told = await bench.said.get()
        assert told == wire.TestEnded(
            test="t1", rung=Rung.LAN, error="broke off", rtt_p50_us=41_000, loss_bp=1_000, cpu_us=30
        )

    with_bench(scenario)


def test_its_rows_are_on_disk_before_the_server_hears(with_bench: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        bench.orders.take(order())
        bench.go_on.set()
        assert await bench.said.get() == wire.TestEnded(test="t1", rung=Rung.LAN, cpu_us=30)
        waiting = bench.outbox.oldest()
        assert waiting is not None
        batch = check_batch(zlib.decompress(waiting.body, wbits=31))
        assert {name: block.rows for name, block in batch.tables.items()} == {"readings": 1, "hops": 1}
        assert bench.orders.packets_refused == 3

    with_bench(scenario)


def test_one_at_a_time_and_not_without_end(with_bench: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        for number in range(MOST_ORDERS + 1):
            bench.orders.take(order(f"t{number}"))
        assert (await bench.started.get())[0] == "t0"
        refused = await bench.said.get()
        assert refused == wire.TestEnded(
            test=f"t{MOST_ORDERS}", rung=Rung.NONE, error="busy with other tests"
        )
        assert bench.started.empty()
        bench.go_on.set()
        ended = [await bench.said.get() for _ in range(MOST_ORDERS)]
        assert [message.test for message in ended if isinstance(message, wire.TestEnded)] == [
            f"t{number}" for number in range(MOST_ORDERS)
        ]

    with_bench(scenario)


def test_a_cancelled_test_frees_the_next_and_leaves_no_reading(
    with_bench: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        bench.orders.take(order("t1"))
        bench.orders.take(order("t2"))
        await bench.started.get()
        bench.orders.take(wire.TestCancel(test="t1", why="the peer is gone"))
        bench.orders.take(wire.TestCancel(test="never heard of", why="x"))
        assert (await bench.started.get())[0] == "t2"
        assert bench.cancelled == ["t1"]
        bench.orders.cancel_all()
        await bench.orders.close()
        assert bench.cancelled == ["t1", "t2"]
        assert bench.said.empty()
        assert not bench.outbox.flush()

    with_bench(scenario)


def test_signals_reach_their_test_and_no_other(with_bench: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        bench.orders.take(order("t1"))
        _, link = await bench.started.get()
        body = wire.Abandon(why="no")
        bench.orders.take(wire.Signal(test="t2", body=body))
        bench.orders.take(wire.Signal(test="t1", body=body))
        assert await link.receive() == body
        await link.send(body)
        assert await bench.said.get() == wire.Signal(test="t1", body=body)
        for _ in range(MOST_SIGNALS + 5):
            bench.orders.take(wire.Signal(test="t1", body=body))
        assert not link.deliver(body)

    with_bench(scenario)


def test_switched_off_it_refuses_and_stops_and_on_again_it_tests(
    with_bench: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        bench.orders.take(order("t1"))
        await bench.started.get()
        bench.orders.take(wire.MeshSwitch(on=False))
        bench.orders.take(order("t2"))
        refused = await bench.said.get()
        assert refused == wire.TestEnded(
            test="t2", rung=Rung.NONE, error="active tests are off on this agent"
        )
        assert bench.cancelled == ["t1"]
        bench.orders.take(wire.MeshSwitch(on=True))
        bench.orders.take(order("t3"))
        assert (await bench.started.get())[0] == "t3"

    with_bench(scenario)


def test_what_is_held_back_is_told_to_the_server_once_and_why(with_bench: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        for test in ("t1", "t2", "t3"):
            bench.orders.take(order(test))
        await bench.started.get()
        bench.orders.take(wire.TestCancel(test="t3", why="ended there already"))
        bench.orders.hold("too much")
        bench.orders.hold("too much")
        bench.orders.take(order("t4"))
        told = [await bench.said.get() for _ in range(3)]
        assert told == [
            wire.TestEnded(test=test, rung=Rung.NONE, error="too much") for test in ("t1", "t2", "t4")
        ]
        assert bench.cancelled == ["t1"]
        assert bench.said.empty()
        bench.orders.hold("")
        bench.orders.take(order("t5"))
        assert (await bench.started.get())[0] == "t5"

    with_bench(scenario)


def test_a_fault_in_a_test_is_told_and_does_not_stop_the_agent(
    with_bench: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(bench: Bench) -> None:
        async def faulty(asked: wire.TestOrder, link: Link) -> Result:
            raise RuntimeError("a mistake of ours")

        monkeypatch.setattr(bench.orders, "_tester", faulty)
        bench.orders.take(order())
        ended = await bench.said.get()
        assert isinstance(ended, wire.TestEnded)
        assert "a mistake of ours" in ended.error

    with_bench(scenario)


def test_without_a_way_to_the_server_a_signal_fails_and_an_end_is_let_be(tmp_path: Path) -> None:
    async def silent(message: wire.FromAgent) -> None:
        raise ServerSilentError("no control connection")

    async def tester(asked: wire.TestOrder, link: Link) -> Result:
        with pytest.raises(SignallingError, match="no control connection"):
            await link.send(wire.Abandon(why="no"))
        return result_of(asked)

    async def scenario() -> None:
        outbox = Outbox(tmp_path, "pacs")
        saved = asyncio.Event()
        orders = Orders(tester, outbox, silent, saved=saved.set)
        orders.take(order())
        async with asyncio.timeout(30):
            await saved.wait()
        await orders.close()
        assert len(outbox) == 1

    asyncio.run(scenario())
