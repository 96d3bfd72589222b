"""The runner and watched pairs: tests between cycles neither hold a cycle up nor count as turns."""

from __future__ import annotations

import dataclasses

from analytics import wire
from analytics.measurement import Rung
from server.cycles import Cycles
from server.schedule import Pair
from tests.unit.server.test_cycles import ALL_OFF, PLAN, World, in_loop, order_in, said

AB = Pair("a", "b")
WATCHING = dataclasses.replace(PLAN, watch_s=30)


def watching(world: World) -> None:
    clock = lambda: world.now_s  # noqa: E731  # one line each, as the world's own
    world.cycles = Cycles(
        world.hub, world.audit, WATCHING, clock=clock, wall_us=lambda: int(world.now_s * 1e6)
    )
    world.cycles.planner.important = {AB}


def ended(world: World, order: wire.TestOrder, rtt_us: int = 40_000) -> None:
    for name in AB:
        word = wire.TestEnded(test=order.test, rung=Rung.LAN, rtt_p50_us=rtt_us, loss_bp=0)
        assert world.cycles.end(name, word)
    world.cycles.step()


@in_loop
async def test_a_marked_pair_is_tested_between_cycles(world: World) -> None:
    watching(world)
    began: list[tuple[str, Pair]] = []
    world.cycles.on_start = lambda test, pair: began.append((test, pair))
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    first = order_in(a)
    said(b)
    ended(world, first)  # in full, as it begins to be watched
    cycle = order_in(a)
    said(b)
    assert cycle.plan == world.cycles.planner.depths.full
    ended(world, cycle)
    assert not world.cycles.running
    world.later(29)
    assert said(a) == []
    world.later(1)
    light = order_in(a)
    said(b)
    assert light.plan == world.cycles.planner.depths.watch
    assert light.first_rung is Rung.LAN
    assert light.deadline_us == 60_000_000
    assert light.cycle > cycle.cycle
    ended(world, light)
    assert [pair for _, pair in began] == [AB] * 3
    assert [test for test, _ in began] == [order.test for order in (first, cycle, light)]


@in_loop
async def test_a_light_test_that_is_odd_is_followed_soon(world: World) -> None:
    watching(world)
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    for _ in range(2):
        ended(world, order_in(a))
        said(b)
    world.later(30)
    ended(world, order_in(a), 100_000)
    world.later(8)
    assert order_in(a).plan == world.cycles.planner.depths.quick
    assert world.cycles.planner.history[AB].attention == 3


@in_loop
async def test_a_cycle_ends_although_a_watched_pair_is_under_test(world: World) -> None:
    watching(world)
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    ended(world, order_in(a))
    said(b)
    ended(world, order_in(a))
    said(b)
    before = world.cycles.planner.history[AB].tested_us
    world.later(30)
    light = order_in(a)
    assert not world.cycles.running
    ended(world, light)
    assert world.cycles.planner.history[AB].tested_us == before


@in_loop
async def test_the_cycle_waits_for_a_watched_pair_that_is_due(world: World) -> None:
    watching(world)
    everyone = {name: world.come(name, f"s-{name}") for name in "abc"}
    world.later(3)
    order = order_in(everyone["a"])
    assert order.peer == "b"  # c waits: all its peers are at it
    said(everyone["b"])
    assert said(everyone["c"]) == []


@in_loop
async def test_a_watched_test_that_breaks_off_is_no_turn_put_off(world: World) -> None:
    watching(world)
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    for _ in range(2):
        ended(world, order_in(a))
        said(b)
    world.later(30)
    said(a)
    world.hub.detach(b)
    world.cycles.step()
    assert world.cycles.skipped == 0
    assert world.cycles._tests == {}


@in_loop
async def test_a_test_on_demand_goes_before_a_watched_one(world: World) -> None:
    watching(world)
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    order_in(a)
    world.cycles.demand([AB])
    cancelled, urgent = said(a)
    assert isinstance(cancelled, wire.TestCancel)
    assert isinstance(urgent, wire.TestOrder)
    assert urgent.plan == world.cycles.planner.depths.quick
    assert len(said(b)) == 3


@in_loop
async def test_nothing_is_watched_while_active_tests_are_off(world: World) -> None:
    watching(world)
    a, _ = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    world.cycles.obey(ALL_OFF)
    said(a)
    world.later(100)
    assert said(a) == []
