"""Tests on demand, budgets and jitter in the runner of the plan; its clock and its chance are the test's."""

import asyncio
from dataclasses import replace
from random import Random

import pytest

from analytics import wire
from analytics.measurement import Rung
from analytics.wire import MeshSwitch, ProbePlan
from server.budget import cost_of, depths
from server.cycles import Cycles
from server.demand import Demand
from server.errors import DemandError
from server.hub import Connection
from server.running import Plan
from server.schedule import Pair
from tests.unit.server.test_cycles import ALL_OFF, PLAN, World, in_loop, order_in, said

DEPTHS = depths(ProbePlan())
AB = Pair("a", "b")


def rebuilt(world: World, plan: Plan, seed: int = 7) -> None:
    """Give a world another plan, and chance that repeats."""
    world.cycles = Cycles(
        world.hub,
        world.audit,
        plan,
        clock=lambda: world.now_s,
        wall_us=lambda: int(world.now_s * 1e6),
        random=Random(seed),
    )


def ended(order: wire.TestOrder, **told: object) -> wire.TestEnded:
    return wire.TestEnded(**{"test": order.test, "rung": Rung.SRFLX, **told})


def orders(fleet: dict[str, Connection]) -> dict[str, wire.TestOrder]:
    """Find the order of each agent that got one."""
    heard = {name: said(connection) for name, connection in fleet.items()}
    return {name: one for name, told in heard.items() for one in told if isinstance(one, wire.TestOrder)}


# --- on demand -------------------------------------------------------------------------------------------


@in_loop
async def test_a_pair_on_demand_is_ordered_at_once_and_told_when_both_ends_are_done(world: World) -> None:
    a, b = world.come("a", "s1"), world.come("b", "s2")  # not yet quiet enough for a cycle
    run = world.cycles.demand([AB])
    first, second = order_in(a), order_in(b)
    assert first.test == second.test
    assert first.plan == DEPTHS.quick
    assert first.deadline_us == 20_000_000
    assert (run.told().pairs, run.told().pairs_ended, run.told().ended_us) == (1, 0, None)
    world.now_s += 2
    world.cycles.end("a", ended(first, rtt_p50_us=900, loss_bp=0))
    world.cycles.end("b", ended(first, rung=Rung.SRFLX, rtt_p50_us=901, loss_bp=100, error="late"))
    told = run.told()
    assert told.ended_us == int(world.now_s * 1e6)
    assert [(r.src, r.dst, r.rtt_p50_us, r.loss_bp, r.error) for r in told.results] == [
        ("a", "b", 900, 0, ""),
        ("b", "a", 901, 100, "late"),
    ]
    assert run.told(since=1).results == told.results[1:]


@in_loop
async def test_it_takes_the_place_of_the_cycles_test_which_comes_again(world: World) -> None:
    fleet = {name: world.come(name, f"s-{name}") for name in "abcd"}
    world.later(3)
    before = orders(fleet)
    assert len(before) == 4
    other = next(name for name in "bcd" if before["a"].peer != name)
    run = world.cycles.demand([Pair("a", other)])
    heard = {name: said(connection) for name, connection in fleet.items()}
    both = {one.test for told in heard.values() for one in told if isinstance(one, wire.TestCancel)}
    assert both == {order.test for order in before.values()}  # they were in the way
    running = {name: one for name, told in heard.items() for one in told if isinstance(one, wire.TestOrder)}
    urgent = running.pop("a")
    assert running.pop(other).test == urgent.test
    assert urgent.peer == other
    assert urgent.plan == DEPTHS.quick
    world.end(urgent, "a", other)
    assert run.told().pairs_ended == 1
    done = []
    while world.cycles.running:
        running |= orders(fleet)
        name, order = next(iter(running.items()))
        del running[name], running[order.peer]
        done.append(tuple(sorted((name, order.peer))))
        world.end(order, name, order.peer)
    assert len(done) == len(set(done)) == 6  # the cycle has its own test of a and the other too
    assert world.cycles.skipped == 0


@in_loop
async def test_a_mesh_on_demand_never_uses_an_agent_twice_at_once(world: World) -> None:
    fleet = {name: world.come(name, f"s-{name}") for name in "abcdef"}
    names = sorted(fleet)
    pairs = [Pair(one, other) for one in names for other in names if one < other]
    run = world.cycles.demand(pairs, fleet=True)
    running: dict[str, wire.TestOrder] = {}
    while run.ended_us is None:
        fresh = orders(fleet)
        assert not fresh.keys() & running.keys()
        running |= fresh
        assert all(order.plan == DEPTHS.fleet for order in fresh.values())
        name, order = next(iter(running.items()))
        del running[name], running[order.peer]
        world.end(order, name, order.peer)
    assert len(run.results) == 30


@in_loop
async def test_an_agent_that_goes_is_the_answer_not_a_wait(world: World) -> None:
    a, b = world.come("a", "s1"), world.come("b", "s2")
    run = world.cycles.demand([AB])
    world.cycles.end("b", ended(order_in(b)))
    world.hub.detach(a)
    results = {result.src: result for result in run.told().results}
    assert results["a"].error == "a is gone: its control connection broke"
    assert (results["a"].rung, results["b"].rung) == (Rung.NONE, Rung.SRFLX)
    away = world.cycles.demand([AB])
    assert [result.error for result in away.results] == ["an end of it is not connected"] * 2


@in_loop
async def test_a_test_on_demand_that_never_ends_is_given_up_early(world: World) -> None:
    world.come("a", "s1"), world.come("b", "s2")
    run = world.cycles.demand([AB])
    world.later(24)
    assert run.ended_us is None
    world.later(1)
    assert run.ended_us is not None
    assert "deadline" in run.results[0].error


@in_loop
async def test_nothing_is_tested_on_demand_while_tests_are_off(world: World) -> None:
    a, _ = world.come("a", "s1"), world.come("b", "s2")
    world.cycles.obey(ALL_OFF)
    with pytest.raises(DemandError, match="switched off"):
        world.cycles.demand([AB])
    assert said(a) == [MeshSwitch(on=False)]


@in_loop
async def test_a_switch_ends_what_runs_on_demand(world: World) -> None:
    for name in "abc":
        world.come(name, f"s-{name}")
    run = world.cycles.demand([AB, Pair("a", "c")])  # the second waits for the first
    world.cycles.obey(ALL_OFF)
    assert [result.error for result in run.results] == ["active tests were switched off"] * 4
    assert run.ended_us is not None


def test_a_pair_is_not_asked_for_twice_nor_too_many_at_once() -> None:
    demand = Demand()
    run = demand.open([AB], DEPTHS.quick, 1)
    with pytest.raises(DemandError, match="a and b are being tested"):
        demand.open([AB], DEPTHS.quick, 2)
    demand.end(AB, {}, 3, why="gone")
    assert demand.open([AB], DEPTHS.quick, 4).id != run.id
    with pytest.raises(DemandError, match="at most"):
        demand.open([Pair("x", f"y{number}") for number in range(5_001)], DEPTHS.fleet, 5)


# --- the budget ------------------------------------------------------------------------------------------


def tight(tests: int) -> Plan:
    """Leave room for so many light tests of an agent in a cycle."""
    cpu_us = tests * cost_of(DEPTHS.light).cpu_us
    return replace(PLAN, budget_cpu_bp=-(-cpu_us // round(PLAN.period_s * 100)))


def cycle_of(world: World, fleet: dict[str, Connection], **told: object) -> list[tuple[Pair, wire.TestOrder]]:
    """Run a cycle to its end; the pairs in the order of their tests."""
    done = []
    while world.cycles.running:
        started = orders(fleet)
        for name, order in started.items():
            if order.controlling:
                pair = Pair(*sorted((name, order.peer)))
                done.append((pair, order))
                for end in pair:
                    world.cycles.end(end, ended(order, **told))
        world.cycles.step()
    return done


@in_loop
async def test_a_budget_too_small_for_all_has_every_pair_in_turn_and_says_so(world: World) -> None:
    rebuilt(world, tight(4))
    fleet = {name: world.come(name, f"s-{name}") for name in "abcdefghi"}
    seen: dict[Pair, int] = {}
    for cycle in range(3):
        world.later(300)
        done = cycle_of(world, fleet)
        assert all(order.plan == DEPTHS.light for _, order in done)
        planner = world.cycles.planner
        assert planner.put_off() == 36 - len(done) > 0
        tested = {pair for pair, _ in done}
        assert planner.puts_off("a", "b") == (AB not in tested)
        seen |= {pair: cycle for pair, _ in done}
    assert len(seen) == 36  # in three cycles, as it said
    assert world.cycles.planner.cycles_for_all in (2, 3)


@in_loop
async def test_what_is_marked_or_changed_is_tested_in_every_cycle(world: World) -> None:
    rebuilt(world, tight(6))
    fleet = {name: world.come(name, f"s-{name}") for name in "abcdefghijkl"}
    world.cycles.planner.important = {Pair("a", "l")}
    for _ in range(3):
        world.later(300)
        assert cycle_of(world, fleet, rtt_p50_us=500)[0][0] == Pair("a", "l")


@in_loop
async def test_a_change_brings_a_pair_up_for_the_next_cycles(world: World) -> None:
    rebuilt(world, tight(12))
    fleet = {name: world.come(name, f"s-{name}") for name in "abcdefghijkl"}
    world.later(300)
    first = cycle_of(world, fleet, rtt_p50_us=500)
    changed = first[-1][0]
    for slower, times in ((90_000, 1), (90_000, 3)):
        for _ in range(times):
            world.later(300)
            orders_ = cycle_of(world, fleet, rtt_p50_us=slower if slower else 500)
            assert changed in [pair for pair, _ in orders_]
    assert world.cycles.planner.history[changed].attention == 0


@in_loop
async def test_a_host_on_which_tests_cost_more_gets_fewer(world: World) -> None:
    rebuilt(world, tight(8))
    fleet = {name: world.come(name, f"s-{name}") for name in "abcdefghi"}
    world.later(300)
    dear = 3 * cost_of(DEPTHS.light).cpu_us
    before = cycle_of(world, fleet, cpu_us=dear)
    for _ in range(8):
        world.later(300)
        after = cycle_of(world, fleet, cpu_us=dear)
    assert len(before) == 36
    assert 0 < len(after) <= 9 * 8 / 3 / 2


@in_loop
async def test_a_host_too_dear_for_any_test_is_tried_again_later(world: World) -> None:
    rebuilt(world, tight(1))
    fleet = {name: world.come(name, f"s-{name}") for name in "ab"}
    tested = []
    for _ in range(24):
        world.later(300)
        tested.append(len(cycle_of(world, fleet, cpu_us=20 * cost_of(DEPTHS.light).cpu_us)))
    assert tested[:2] == [1, 0]
    assert 1 in tested[2:]


# --- jitter ----------------------------------------------------------------------------------------------


def starts(seed: int) -> list[list[float]]:
    """When each of a fleet's tests started, in two cycles."""
    world = World()
    rebuilt(world, replace(PLAN, jitter_s=2.0), seed)
    fleet = {name: world.come(name, f"s-{name}") for name in "abcdef"}
    cycles = []
    for _ in range(2):
        world.later(303)
        began_s, started = world.now_s, []
        while world.cycles.running:
            for name, order in orders(fleet).items():
                if order.controlling:
                    started.append(round(world.now_s - began_s, 2))
                    world.end(order, name, order.peer)
            world.later(0.01)
        cycles.append(started)
    return cycles


def test_tests_start_at_times_of_their_own_and_the_same_ones_for_the_same_seed() -> None:
    async def scenario() -> None:
        first, second = starts(1)
        assert len(set(first[:3])) == 3  # the first three could all have begun at once
        assert 0 < max(first[:3]) <= 2.1
        assert first != second
        assert starts(1) == [first, second] != starts(2)

    asyncio.run(scenario())
