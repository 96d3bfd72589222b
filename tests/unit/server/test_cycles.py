"""The runner of the plan, with a clock that the test turns, and connections whose queue is the far end."""

import asyncio
from collections.abc import Callable, Coroutine
from itertools import combinations

import pytest

from analytics import wire
from analytics.measurement import Rung
from analytics.wire import Abandon, FromServer, Hello, MeshSwitch, ProbePlan, Signal
from server.agent_rows import Agent
from server.api.controls import Off, Reach
from server.audit import Audit
from server.budget import Budget, cost_of
from server.control import ALL_ON, FLEET, Subject, Switches
from server.cycles import Cycles
from server.early import WAITS_S
from server.hub import MOST_WAITING, REPLACED, TOO_SLOW, Connection, Hub
from server.running import Plan
from server.turn import Relays

PLAN = Plan(
    period_s=300,
    settle_s=2,
    deadline_s=60,
    probe=ProbePlan(),
    stun=((None, 3478), ("192.0.2.9", 3479)),
    relays=Relays(("turn:192.0.2.5:3478?transport=udp",), "north-star-north-star"),
)


def switched_off(reach: Reach, name: str = FLEET) -> Switches:
    return Switches({Subject(reach, name): Off(reach=reach, name=name, by="somebody", since_us=1)})


ALL_OFF = switched_off(Reach.FLEET)


class World:
    """A server's mesh without its sockets."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.audited: list[tuple[str, str]] = []
        self.hub = Hub(clock=lambda: self.now_s)
        audit = Audit(None, "default")  # type: ignore[arg-type]  # nothing is written here
        self.audit = audit
        self.cycles = Cycles(
            self.hub, audit, PLAN, clock=lambda: self.now_s, wall_us=lambda: int(self.now_s * 1e6)
        )

    def come(self, name: str, site: str, *, mesh: bool = True) -> Connection:
        agent = Agent(
            tenant="default",
            name=name,
            site=site,
            label="",
            services=(),
            fingerprint=f"fingerprint of {name}",
            token_hash="",
            enrolled_us=0,
            seen_us=0,
        )
        connection = Connection(agent, Hello(version="1", boot="b", mesh=mesh), server_host="192.0.2.1")
        self.hub.attach(connection)
        return connection

    def later(self, seconds: float) -> None:
        self.now_s += seconds
        self.cycles.step()

    def end(self, order: wire.TestOrder, *names: str, rung: Rung = Rung.LAN) -> None:
        for name in names:
            assert self.cycles.end(name, wire.TestEnded(test=order.test, rung=rung))
        self.cycles.step()


def said(connection: Connection) -> list[FromServer]:
    return [connection.outgoing.get_nowait() for _ in range(connection.outgoing.qsize())]


def order_in(connection: Connection) -> wire.TestOrder:
    (order,) = said(connection)
    assert isinstance(order, wire.TestOrder)
    return order


Scenario = Callable[[World], Coroutine[None, None, None]]


def in_loop(scenario: Scenario) -> Callable[[], None]:
    """Run a scenario on an event loop; asyncio.Future needs one."""

    def test() -> None:
        async def run() -> None:
            await scenario(World())

        asyncio.run(run())

    test.__name__ = scenario.__name__
    test.__doc__ = scenario.__doc__
    return test


@in_loop
async def test_both_ends_are_ordered_once_the_fleet_is_quiet(world: World) -> None:
    world.later(500)
    assert world.cycles.cycle is None
    a = world.come("a", "s1")
    b = world.come("b", "s2")
    world.later(1.9)
    assert said(a) == []
    world.later(0.2)
    first, second = order_in(a), order_in(b)
    assert first.test == second.test
    assert (first.peer, second.peer) == ("b", "a")
    assert (first.peer_fingerprint, second.peer_fingerprint) == ("fingerprint of b", "fingerprint of a")
    assert [first.controlling, second.controlling] == [True, False]
    assert first.cycle == int(world.now_s) == world.cycles.cycle
    assert first.rungs == [Rung.LAN, Rung.IPV6, Rung.SRFLX, Rung.RELAY_UDP]  # the relay has no TCP
    assert [server.url for server in first.ice_servers] == [
        "stun:192.0.2.1:3478",
        "stun:192.0.2.9:3479",
        "turn:192.0.2.5:3478?transport=udp",
    ]
    assert first.ice_servers[2].username == f"{int(world.now_s) + 3600}:a"


@in_loop
async def test_a_cycle_ends_and_the_next_starts_a_period_after_its_start(world: World) -> None:
    a, _ = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    order = order_in(a)
    assert world.cycles.running
    world.end(order, "a", "b")
    assert not world.cycles.running
    assert world.cycles.ended.is_set()
    world.later(299)
    assert said(a) == []
    world.later(1)
    assert order_in(a).cycle == order.cycle + 300


@in_loop
async def test_no_site_is_in_two_tests_and_every_pair_gets_its_turn(world: World) -> None:
    sites = {"a": "s1", "b": "s1", "c": "s2", "d": "s3", "e": "s4", "f": "s4"}
    fleet = {name: world.come(name, site) for name, site in sites.items()}
    running: dict[str, wire.TestOrder] = {}
    done: list[tuple[str, str]] = []
    world.later(3)
    while world.cycles.running:
        for name, connection in fleet.items():
            for order in said(connection):
                assert isinstance(order, wire.TestOrder)
                running[name] = order
        pairs = {tuple(sorted((name, order.peer))) for name, order in running.items()}
        taken = [site for pair in pairs for site in {sites[agent] for agent in pair}]
        assert len(running) == 2 * len(pairs)
        assert len(taken) == len(set(taken))
        name, order = next(iter(running.items()))
        done.append((min(name, order.peer), max(name, order.peer)))
        del running[name], running[order.peer]
        world.end(order, name, order.peer)
    assert sorted(done) == list(combinations(sorted(sites), 2))


@in_loop
async def test_signals_go_to_the_other_end_of_a_running_test_only(world: World) -> None:
    a, b, c = world.come("a", "s1"), world.come("b", "s2"), world.come("c", "s3", mesh=False)
    world.later(3)
    order = order_in(a)
    said(b)
    signal = Signal(test=order.test, body=Abandon(why="no"))
    assert world.cycles.relay("a", signal)
    assert said(b) == [signal]
    assert not world.cycles.relay("c", signal)
    assert not world.cycles.relay("a", Signal(test="another", body=signal.body))
    world.end(order, "a", "b")
    assert not world.cycles.relay("a", signal)
    assert said(c) == []


@in_loop
async def test_a_test_is_over_when_both_ends_say_so(world: World) -> None:
    a, _ = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    order = order_in(a)
    world.end(order, "a", "a")
    assert world.cycles.running
    assert not world.cycles.end("c", wire.TestEnded(test=order.test, rung=Rung.NONE))
    world.end(order, "b")
    assert not world.cycles.running


@in_loop
async def test_an_agent_lost_in_a_test_frees_the_other_end(world: World) -> None:
    a, b, c = world.come("a", "s1"), world.come("b", "s2"), world.come("c", "s3")
    world.later(3)
    everyone = {"a": a, "b": b, "c": c}
    orders = {name: order for name in everyone for order in said(everyone[name])}
    lost = min(orders)
    order = orders[lost]
    assert isinstance(order, wire.TestOrder)
    world.hub.detach(everyone[lost])
    (cancel,) = said(everyone[order.peer])
    assert cancel == wire.TestCancel(test=order.test, why=f"{lost} is gone: its control connection broke")
    world.cycles.step()  # the pair left is tested, those with the lost agent are left out
    last = order_in(everyone[order.peer])
    assert lost != last.peer
    world.end(last, order.peer, last.peer)
    assert world.cycles.running
    for _ in range(2):
        world.later(5)  # the second turns, one after the other: it is still away
    assert not world.cycles.running
    assert world.cycles.skipped == 2


@in_loop
async def test_a_test_that_never_ends_is_cancelled_after_its_deadline(world: World) -> None:
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    order = order_in(a)
    said(b)
    assert world.cycles.end("a", wire.TestEnded(test=order.test, rung=Rung.NONE))
    world.later(64)
    assert said(b) == []
    world.later(1)
    assert said(b) == [wire.TestCancel(test=order.test, why="not done 5 s after its deadline")]
    assert said(a) == []
    world.later(5)
    assert order_in(a).test != order.test  # a second turn, and no third
    world.later(65)
    assert world.cycles.skipped == 1
    assert not world.cycles.running


@in_loop
async def test_an_agent_that_is_back_soon_is_tested_after_all(world: World) -> None:
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    world.hub.detach(b)
    said(a)
    again = world.come("b", "s2")
    world.later(5)
    order = order_in(again)
    world.end(order, "a", "b")
    assert not world.cycles.running
    assert world.cycles.skipped == 0


@in_loop
async def test_agents_that_come_during_a_cycle_join_it(world: World) -> None:
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    order = order_in(a)
    said(b)
    c = world.come("c", "s3")
    world.later(3)
    world.end(order, "a", "b")
    pairs = set()
    while world.cycles.running:
        order = order_in(c)
        pairs.add(order.peer)
        world.end(order, "c", order.peer)
    assert pairs == {"a", "b"}
    assert said(a)


@in_loop
async def test_agents_that_come_after_a_cycle_are_tested_at_once_and_nobody_twice(world: World) -> None:
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    cycle = world.cycles.cycle
    world.end(order_in(a), "a", "b")
    said(b)
    assert not world.cycles.running
    world.later(100)
    c = world.come("c", "s3")
    world.later(1)
    assert said(c) == []  # others may be coming with it
    world.later(1)
    pairs = set()
    while world.cycles.running:
        order = order_in(c)
        pairs.add(order.peer)
        assert order.cycle == cycle
        world.end(order, "c", order.peer)
    assert pairs == {"a", "b"}
    world.hub.detach(c)
    back = world.come("c", "s3")
    world.later(20)
    assert said(back) == []  # it has had its tests
    for connection in (a, b):
        said(connection)
    world.later(177)
    assert said(a) == []
    world.later(1)  # a period after the first start, whoever came
    assert isinstance(said(a)[0], wire.TestOrder)


@in_loop
async def test_a_first_test_that_fails_is_repeated_soon_three_times_and_then_with_the_cycle(
    world: World,
) -> None:
    a, _ = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    began_s = world.now_s
    world.end(order_in(a), "a", "b", rung=Rung.NONE)
    assert not world.cycles.running
    for wait_s in WAITS_S:
        world.later(wait_s - 0.1)
        assert said(a) == []
        world.later(0.2)
        world.end(order_in(a), "a", "b", rung=Rung.NONE)
    world.later(began_s + 299 - world.now_s)
    assert said(a) == []
    world.later(1)
    world.end(order_in(a), "a", "b", rung=Rung.NONE)
    world.later(250)
    assert said(a) == []  # it is no first test any more


@in_loop
async def test_a_first_test_that_works_the_second_time_is_left_to_the_cycle(world: World) -> None:
    a, _ = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    world.end(order_in(a), "a", "b", rung=Rung.NONE)
    world.later(10)
    world.end(order_in(a), "a", "b")
    world.later(200)
    assert said(a) == []


@in_loop
async def test_a_path_that_worked_before_has_no_early_turns(world: World) -> None:
    a, _ = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    world.end(order_in(a), "a", "b")
    world.later(300)
    world.end(order_in(a), "a", "b", rung=Rung.NONE)
    world.later(200)
    assert said(a) == []


@in_loop
async def test_a_first_test_that_the_cycle_missed_is_repeated_when_both_ends_are_there(world: World) -> None:
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    world.hub.detach(b)
    world.later(5)
    assert (world.cycles.running, world.cycles.skipped) == (False, 1)
    said(a)
    world.later(60)
    assert said(a) == []
    world.come("b", "s2")
    world.later(5)
    world.end(order_in(a), "a", "b")


@in_loop
async def test_nothing_is_repeated_of_what_was_switched_off(world: World) -> None:
    a, _ = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    world.end(order_in(a), "a", "b", rung=Rung.NONE)
    world.cycles.obey(ALL_OFF)
    world.later(15)
    assert said(a) == [MeshSwitch(on=False)]


@in_loop
async def test_an_early_turn_waits_for_room_in_the_budget_of_a_cycle(world: World) -> None:
    a, _ = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    order = order_in(a)
    spent = Budget(*cost_of(order.plan))._replace(wall_us=10**9)
    world.cycles.planner._budget = spent  # all of it, by the test in the order
    world.end(order, "a", "b", rung=Rung.NONE)
    world.later(15)
    assert said(a) == []
    world.later(300)
    assert isinstance(order_in(a), wire.TestOrder)


@in_loop
async def test_switching_off_stops_tests_and_says_so_and_on_starts_again(world: World) -> None:
    a, _ = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    order = order_in(a)
    world.cycles.obey(ALL_OFF)
    assert said(a) == [
        MeshSwitch(on=False),
        wire.TestCancel(test=order.test, why="active tests were switched off"),
    ]
    world.later(1000)
    assert said(a) == []
    world.cycles.obey(ALL_ON)
    world.later(3)  # as for an agent that comes
    switched, again = said(a)
    assert switched == MeshSwitch(on=True)
    assert isinstance(again, wire.TestOrder)


@in_loop
async def test_a_second_connection_replaces_the_first_and_its_tests(world: World) -> None:
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    said(b)
    again = world.come("a", "s1")
    assert a.closing.result()[0] == REPLACED
    assert world.hub.get("a") is again
    assert isinstance(said(b)[0], wire.TestCancel)
    world.hub.detach(a)
    assert world.hub.get("a") is again


@in_loop
async def test_an_agent_that_does_not_read_is_disconnected(world: World) -> None:
    a = world.come("a", "s1")
    for _ in range(MOST_WAITING):
        a.say(MeshSwitch(on=True))
    assert not a.closing.done()
    a.say(MeshSwitch(on=True))
    assert a.closing.result()[0] == TOO_SLOW


@in_loop
async def test_the_end_of_the_runner_tells_both_ends(world: World) -> None:
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.now_s += 3
    runner = asyncio.create_task(world.cycles.run())
    order = await asyncio.wait_for(a.outgoing.get(), 30)
    assert isinstance(order, wire.TestOrder)
    runner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await runner
    assert said(a) == [wire.TestCancel(test=order.test, why="the server is stopping")]
    assert said(b)[1:] == [wire.TestCancel(test=order.test, why="the server is stopping")]
