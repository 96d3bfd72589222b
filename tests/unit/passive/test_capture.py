"""Passive capture with the host's own switch: who watches, and whether anything is in the kernel."""

from __future__ import annotations

import asyncio

import pytest

from agent.local_switch import MESH, PASSIVE
from agent.passive.capture import Capture
from agent.passive.watch import Watch
from analytics.measurement import Flow
from analytics.wire import LocalOff
from ebpf.errors import AttachError
from tests.unit.passive.records import Source, closed, run

OFF = LocalOff(since_us=1, by="ada")


class Paused(Source):
    """A source that notes whether it may be asked."""

    def __init__(self, *, on: bool = True) -> None:
        super().__init__()
        self.on = on
        self.steps: list[str] = []
        self.refuses = False

    def pause(self) -> None:
        self.on = False
        self.steps.append("pause")

    def resume(self) -> None:
        if self.refuses:
            raise AttachError("attaching: no", remedy="none")
        self.on = True
        self.steps.append("resume")


class World:
    """A capture, and a watch of it that hands its flows over here."""

    def __init__(self, off: LocalOff | None = None) -> None:
        self.source = Paused(on=off is None)
        self.capture = Capture(self.source, off)
        self.flows: list[Flow] = []
        self.watches = 0

    async def watch(self) -> None:
        self.watches += 1
        watch = Watch(
            self.source, agent="a", tenant="default", sink=self.flows.extend, window_s=3600, idle_s=0.001
        )
        try:
            await watch.run()
        finally:
            assert self.source.on  # what was seen is handed over first
            self.source.steps.append("handed over")

    async def settled(self) -> None:
        await asyncio.sleep(0.02)


def test_what_was_seen_is_handed_over_then_nothing_is_in_the_kernel_until_it_is_on_again() -> None:
    async def scenario() -> None:
        world = World()
        running = asyncio.create_task(world.capture.run(world.watch))
        await world.settled()
        world.source.closes = [run(closed(cookie=n)) for n in range(3)]
        world.capture.heard(MESH, OFF)  # another switch
        await world.settled()
        assert world.watches == 1
        world.capture.heard(PASSIVE, OFF)
        await world.settled()
        assert sum(row.closed for row in world.flows) == 3
        assert world.source.steps == ["resume", "handed over", "pause"]
        world.capture.heard(PASSIVE, None)
        await world.settled()
        assert (world.source.on, world.watches) == (True, 2)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        assert world.source.on  # a session with the server ended, no more

    asyncio.run(scenario())


def test_it_is_obeyed_between_two_sessions_with_the_server_and_before_the_first() -> None:
    async def scenario() -> None:
        world = World()
        world.capture.heard(PASSIVE, OFF)
        assert not world.source.on
        running = asyncio.create_task(world.capture.run(world.watch))
        await world.settled()
        assert (world.watches, world.source.on) == (0, False)
        running.cancel()
        await asyncio.wait([running])
        world.capture.heard(PASSIVE, None)
        assert not world.source.on  # nobody would read it
        running = asyncio.create_task(world.capture.run(world.watch))
        await world.settled()
        running.cancel()
        world.capture.heard(PASSIVE, OFF)  # just as a session ends
        await asyncio.wait([running])
        assert (world.watches, world.source.on) == (1, False)

    asyncio.run(scenario())


def test_what_was_switched_off_while_it_was_opened_leaves_nothing_in_the_kernel() -> None:
    source = Paused(on=True)
    Capture(source, OFF)
    assert not source.on


def test_who_stops_it_while_it_is_switched_off_is_not_overheard() -> None:
    async def scenario() -> None:
        source, handing_over = Paused(on=True), asyncio.Event()

        async def watch() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                handing_over.set()
                await asyncio.sleep(0.05)

        capture = Capture(source, None)
        running = asyncio.create_task(capture.run(watch))
        await asyncio.sleep(0.01)
        capture.heard(PASSIVE, OFF)
        await handing_over.wait()
        running.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await running
        assert not source.on

    asyncio.run(scenario())


def test_one_that_cannot_be_switched_on_again_ends_the_agent() -> None:
    async def scenario() -> None:
        world = World(OFF)
        world.source.refuses = True
        running = asyncio.create_task(world.capture.run(world.watch))
        await world.settled()
        world.capture.heard(PASSIVE, None)
        with pytest.raises(AttachError):
            await running

    asyncio.run(scenario())


def test_a_watch_that_fails_is_not_taken_for_a_switch() -> None:
    async def failing() -> None:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        asyncio.run(World().capture.run(failing))
