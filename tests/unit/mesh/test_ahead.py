"""Relays made ready ahead: when, how many, and what becomes of those nobody took."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

import pytest

from agent.mesh.ahead import AHEAD_S, NEXT_S, Ahead
from analytics.measurement import Rung

ALL = [rung for rung in Rung if rung is not Rung.NONE]


class Fake:
    def __init__(self, *, empty: bool = False) -> None:
        self.empty = empty
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class Gatherer:
    """Gathers as told: at once, never, or with an error."""

    def __init__(self, **slow: float) -> None:
        self.made: dict[Rung, Fake] = {}
        self.begun: list[Rung] = []
        self.empty: set[Rung] = set()
        self._slow = slow

    async def __call__(self, rung: Rung) -> Fake:
        self.begun.append(rung)
        await asyncio.sleep(self._slow.get(rung.name, 0))
        self.made[rung] = Fake(empty=rung in self.empty)
        return self.made[rung]


class Jumping(selectors.SelectSelector):
    """Never sleeps: the time it was to sleep for is over at once."""

    slept_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.slept_s += timeout or 0
        return super().select(0)


class OwnTime(asyncio.SelectorEventLoop):
    """A loop with a clock that moves only while it sleeps: no host is too busy for it."""

    def __init__(self) -> None:
        self._jumping = Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.slept_s


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=OwnTime) as runner:
        runner.run(main)


def test_a_quick_direct_rung_costs_no_relay_anything() -> None:
    async def main() -> None:
        gather = Gatherer()
        ready = Ahead(gather, ALL)
        await ready.take(Rung.LAN)
        await ready.close()
        assert gather.begun == [Rung.LAN]
        assert not gather.made[Rung.LAN].closed  # whoever took it closes it

    run(main())


def test_one_relay_that_answers_is_enough_and_is_handed_over() -> None:
    async def main() -> None:
        gather = Gatherer()
        ready = Ahead(gather, ALL)
        await asyncio.sleep(AHEAD_S + 3 * NEXT_S)
        assert gather.begun == [Rung.RELAY_UDP]
        assert await ready.take(Rung.RELAY_UDP) is gather.made[Rung.RELAY_UDP]
        await ready.close()
        assert not gather.made[Rung.RELAY_UDP].closed

    run(main())


def test_where_a_relay_is_silent_or_has_nothing_the_next_is_asked() -> None:
    async def main() -> None:
        gather = Gatherer(RELAY_UDP=60)
        gather.empty = {Rung.RELAY_TCP}
        ready = Ahead(gather, ALL)
        await asyncio.sleep(AHEAD_S + 3 * NEXT_S)
        assert gather.begun == [Rung.RELAY_UDP, Rung.RELAY_TCP, Rung.RELAY_TLS]
        await ready.close()
        assert all(attempt.closed for attempt in gather.made.values())
        assert Rung.RELAY_UDP not in gather.made
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_a_rung_that_is_ordered_again_and_again_is_gathered_once() -> None:
    async def main() -> None:
        gather = Gatherer(RELAY_UDP=60, RELAY_TCP=60)
        ready = Ahead(gather, [Rung.RELAY_UDP, Rung.RELAY_TCP] * 500)
        await asyncio.sleep(AHEAD_S + 20 * NEXT_S)
        assert gather.begun == [Rung.RELAY_UDP, Rung.RELAY_TCP]
        await ready.close()
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_a_fault_while_gathering_is_raised_to_whoever_takes_the_rung() -> None:
    async def broken(rung: Rung) -> Fake:
        raise OSError("no sockets left")

    async def main() -> None:
        ready = Ahead(broken, ALL)
        await asyncio.sleep(2 * AHEAD_S)
        with pytest.raises(OSError, match="no sockets left"):
            await ready.take(Rung.RELAY_UDP)
        await ready.close()

    run(main())
