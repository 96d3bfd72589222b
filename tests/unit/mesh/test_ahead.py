"""Relays made ready ahead: when, how many, and what becomes of those nobody took."""

from __future__ import annotations

import asyncio

import pytest

from agent.mesh import ahead
from agent.mesh.ahead import Ahead
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


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "AHEAD_S", 0.05)
    monkeypatch.setattr(ahead, "NEXT_S", 0.05)


def test_a_quick_direct_rung_costs_no_relay_anything() -> None:
    async def main() -> None:
        gather = Gatherer()
        ready = Ahead(gather, ALL)
        await ready.take(Rung.LAN)
        await ready.close()
        assert gather.begun == [Rung.LAN]
        assert not gather.made[Rung.LAN].closed  # whoever took it closes it

    asyncio.run(main())


def test_one_relay_that_answers_is_enough_and_is_handed_over() -> None:
    async def main() -> None:
        gather = Gatherer()
        ready = Ahead(gather, ALL)
        await asyncio.sleep(0.2)
        assert gather.begun == [Rung.RELAY_UDP]
        assert await ready.take(Rung.RELAY_UDP) is gather.made[Rung.RELAY_UDP]
        await ready.close()
        assert not gather.made[Rung.RELAY_UDP].closed

    asyncio.run(main())


def test_where_a_relay_is_silent_or_has_nothing_the_next_is_asked() -> None:
    async def main() -> None:
        gather = Gatherer(RELAY_UDP=60)
        gather.empty = {Rung.RELAY_TCP}
        ready = Ahead(gather, ALL)
        await asyncio.sleep(0.3)
        assert gather.begun == [Rung.RELAY_UDP, Rung.RELAY_TCP, Rung.RELAY_TLS]
        await ready.close()
        assert all(attempt.closed for attempt in gather.made.values())
        assert Rung.RELAY_UDP not in gather.made
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_fault_while_gathering_is_raised_to_whoever_takes_the_rung() -> None:
    async def broken(rung: Rung) -> Fake:
        raise OSError("no sockets left")

    async def main() -> None:
        ready = Ahead(broken, ALL)
        await asyncio.sleep(0.1)
        with pytest.raises(OSError, match="no sockets left"):
            await ready.take(Rung.RELAY_UDP)
        await ready.close()

    asyncio.run(main())
