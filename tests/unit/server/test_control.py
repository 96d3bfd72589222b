"""Switches, tags and budgets: decided, at work in the mesh, and through a real server's doors."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from agent.identity import create
from analytics import wire
from analytics.measurement import Rung
from analytics.wire import MeshSwitch, ProbePlan
from server.accounts.tokens import create_access_token
from server.api.controls import Allowance, BudgetNow, Reach
from server.app import serving
from server.budget import budget_of, depths
from server.control import FLEET, Limits, Subject, Switches, own_budgets
from server.errors import DemandError
from server.hub import Connection
from server.planner import Planner
from server.schedule import Pair
from server.settings import Settings
from tests.unit.server.enrolling import Member
from tests.unit.server.test_cycles import ALL_ON, World, in_loop, order_in, said, switched_off
from tests.unit.server.test_signalling import connected, hear, raw, say

Run = Callable[[Callable[[Any], Any]], None]
A, B = create("a"), create("b")
JSON = {"Content-Type": "application/json"}
SETTING = BudgetNow(cpu_bp=80, bytes_per_hour=36_000_000)
NAMES = st.sampled_from(["a", "b", "c"])
SUBJECTS = st.one_of(
    st.just(Subject(Reach.FLEET, FLEET)),
    st.builds(Subject, st.sampled_from([Reach.SITE, Reach.AGENT]), NAMES),
)


@given(st.sets(SUBJECTS), NAMES, NAMES)
def test_an_agent_is_on_only_where_nothing_that_it_belongs_to_is_off(
    off: set[Subject], agent: str, site: str
) -> None:
    switches = Switches({subject: switched_off(*subject).off[subject] for subject in off})
    its_own = [Subject(Reach.FLEET, FLEET), Subject(Reach.SITE, site), Subject(Reach.AGENT, agent)]
    by = switches.off_by(agent, site)
    assert switches.on(agent, site) is (by is None) is off.isdisjoint(its_own)
    if by is not None:
        assert Subject(by.reach, by.name) == next(subject for subject in its_own if subject in off)


def test_the_narrower_budget_goes_first_for_each_of_its_parts() -> None:
    limits = Limits(
        {
            Subject(Reach.FLEET, FLEET): Allowance(cpu_bp=50),
            Subject(Reach.SITE, "s1"): Allowance(cpu_bp=40, bytes_per_hour=1_000_000),
            Subject(Reach.AGENT, "a"): Allowance(bytes_per_hour=500_000),
        }
    )
    assert limits.of("a", "s1", SETTING) == BudgetNow(
        cpu_bp=40, cpu_by=Reach.SITE, bytes_per_hour=500_000, bytes_by=Reach.AGENT
    )
    assert limits.of("b", "s2", SETTING) == BudgetNow(
        cpu_bp=50, cpu_by=Reach.FLEET, bytes_per_hour=36_000_000, bytes_by=None
    )
    assert own_budgets(Limits(), {"a": "s1"}, SETTING, 300) == {}


def test_the_planner_keeps_to_an_agents_own_budget() -> None:
    """Six agents whose setting has room for every test in full, and one of them that may send little."""
    plans = depths(ProbePlan())
    budget = budget_of(period_s=300, cpu_bp=80, bytes_per_hour=36_000_000)
    planner = Planner(plans, budget, Random(1), period_s=300, setting=SETTING)
    sites = {name: name for name in "abcdef"}
    asked = planner.ask(sites)
    assert len(planner.choose(asked)) == 15
    planner.limits = Limits({Subject(Reach.AGENT, "a"): Allowance(bytes_per_hour=500_000)})  # 41 kB a cycle
    chosen = planner.choose(planner.ask(sites))
    of_a = [choice for choice in chosen if "a" in choice.pair]
    assert 1 <= len(of_a) < 5
    assert not any(choice.full for choice in of_a)
    assert [choice.full for choice in chosen if "a" not in choice.pair] == [True] * 10


@in_loop
async def test_a_site_switched_off_ends_its_tests_and_those_only(world: World) -> None:
    a, b, c = world.come("a", "s1"), world.come("b", "s2"), world.come("c", "s3")
    d = world.come("d", "s4")
    world.later(3)
    orders = {name: order_in(it) for name, it in (("a", a), ("b", b), ("c", c), ("d", d))}
    world.cycles.obey(switched_off(Reach.SITE, "s1"))
    peer = {"b": b, "c": c, "d": d}[orders["a"].peer]
    gone = wire.TestCancel(test=orders["a"].test, why="active tests were switched off")
    assert said(a) == [MeshSwitch(on=False), gone]
    world.cycles.step()
    assert said(peer)[0] == gone
    others = sorted(orders.keys() - {"a", orders["a"].peer})
    world.end(orders[others[0]], *others)
    tested = set()
    for _ in range(3):  # the pairs without a; nothing waits for it
        world.later(1)
        for it in (b, c, d):
            for message in said(it):
                assert isinstance(message, wire.TestOrder)
                assert message.peer != "a"
                tested.add(message.test)
                if len({message.peer, it.agent.name}) == 2 and message.controlling:
                    world.end(message, it.agent.name, message.peer)
    assert said(a) == []
    assert not world.cycles.running
    assert world.cycles.skipped == 0

    world.cycles.obey(ALL_ON)
    assert said(a) == [MeshSwitch(on=True)]


@in_loop
async def test_an_agent_switched_on_again_joins_the_running_cycle(world: World) -> None:
    a, b, c = (world.come(name, f"s-{name}") for name in "abc")
    world.later(3)
    world.cycles.obey(switched_off(Reach.AGENT, "c"))
    orders: dict[str, wire.TestOrder] = {}
    for it in (a, b, c):
        collect(orders, it)
    world.cycles.obey(ALL_ON)
    world.later(3)
    for _ in range(6):
        for it in (a, b, c):
            collect(orders, it)
        for order in [*orders.values()]:
            world.end(orders.pop(order.test), order.peer, other_end(world, order))
        world.later(1)
    assert world.cycles.planner.history.keys() >= {Pair("a", "c"), Pair("b", "c")}


AGENTS = [Subject(Reach.AGENT, name) for name in "abcd"]
REACHES = [Subject(Reach.FLEET, FLEET), Subject(Reach.SITE, "s-a"), *AGENTS]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("switch"), st.sets(st.sampled_from(REACHES), max_size=3)),
        st.tuples(st.just("later"), st.sampled_from([0.1, 3.0, 40.0, 301.0])),
        st.tuples(st.just("end"), st.none()),
        st.tuples(st.just("demand"), st.sampled_from([Pair("a", "b"), Pair("b", "d"), Pair("c", "d")])),
    ),
    max_size=25,
)


@given(STEPS)
@examples(max_examples=150, deadline=None)
def test_whatever_is_switched_when_no_agent_that_is_off_is_tested(steps: list[tuple[str, Any]]) -> None:
    """Orders, cancellations and switches as the agents hear them: who is off has nothing left to do."""

    async def scenario() -> None:
        world = World()
        agents = {name: world.come(name, f"s-{name}") for name in "abcd"}
        orders: dict[str, dict[str, wire.TestOrder]] = {name: {} for name in agents}
        for step, value in steps:
            take(world, step, value, orders)
            for name, connection in agents.items():
                collect(orders[name], connection)
                assert orders[name].keys() == {
                    test.id for test in world.cycles._tests.values() if name in test.unfinished
                }
                assert world.hub.is_on(connection) or not orders[name], f"{name} is off, and tests"

    asyncio.run(scenario())


def take(world: World, step: str, value: Any, orders: dict[str, dict[str, wire.TestOrder]]) -> None:
    if step == "switch":
        world.cycles.obey(Switches({one: switched_off(*one).off[one] for one in value}))
    elif step == "later":
        world.later(value)
    elif step == "demand":
        with contextlib.suppress(DemandError):  # off, or asked for already
            world.cycles.demand([value])
    else:
        for name, own in orders.items():
            for test in [*own]:
                world.cycles.end(name, wire.TestEnded(test=test, rung=Rung.LAN))
                del own[test]
        world.cycles.step()


def collect(orders: dict[str, wire.TestOrder], connection: Connection) -> None:
    """Keep the tests that an agent is to run."""
    for message in said(connection):
        if isinstance(message, wire.TestOrder):
            orders[message.test] = message
        elif isinstance(message, wire.TestCancel):
            orders.pop(message.test, None)


def other_end(world: World, order: wire.TestOrder) -> str:
    pair = world.cycles._tests[order.test].pair
    return next(name for name in pair if name != order.peer)


# --- through the doors -----------------------------------------------------------------------------------


async def post(site: Any, path: str, **body: Any) -> httpx.Response:
    return await site.report.post(f"/v1/{path}", content=json.dumps(body), headers=JSON)


async def get(site: Any, path: str) -> Any:
    answer = await site.report.get(f"/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_switch_is_told_within_five_seconds_kept_and_audited(with_server: Run, settings: Settings) -> None:
    members: list[Member] = []

    async def scenario(site: Any) -> None:
        first_agent = await site.enrol("a", "s1", identity=A)
        second_agent = await site.enrol("b", "s2", identity=B)
        members.append(first_agent)
        async with connected(site, first_agent) as a, connected(site, second_agent) as b:
            order = await hear(a)
            assert isinstance(order, wire.TestOrder)
            assert isinstance(await hear(b), wire.TestOrder)
            told = (await post(site, "mesh/switches", reach="agent", name="a", on=False)).json()
            assert (told["agents_off"], told["agents"]) == (1, 2)
            assert [(off["reach"], off["name"], off["by"]) for off in told["off"]] == [
                ("agent", "a", site.actor)
            ]
            assert await hear(a) == MeshSwitch(on=False)
            assert isinstance(await hear(a), wire.TestCancel)
            assert isinstance(await hear(b), wire.TestCancel)
            await say(a, wire.TestEnded(test=order.test, rung=Rung.NONE))
            refused = await post(site, "mesh/runs", src="a", dst="b")
            assert refused.status_code == 409
            assert "switched off on a" in refused.json()["title"]
            assert (await get(site, "status"))["paths_expected"] == 0
        rows: list[Any] = []
        while not rows:  # they are written twice a second
            rows = [row for row in await get(site, "audit") if row["action"] == "switch"]
        row = rows[0]
        assert (row["actor"], row["subject"], row["detail"]) == (site.actor, "agent a", "mesh=off")

    async def after_a_restart() -> None:
        async with asyncio.timeout(60), serving(settings) as running:
            site = type("Site", (), {"running": running})
            async with raw(site, members[0]) as a:
                await say(a, wire.Hello(version="1", boot="b"))
                assert isinstance(await hear(a), wire.Welcome)
                assert await hear(a) == MeshSwitch(on=False)

    with_server(scenario)
    asyncio.run(after_a_restart())


def test_tags_are_put_on_and_taken_off_and_found(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.enrol("a", "s1", identity=A)
        await site.enrol("b", "s2", identity=B)
        assert await get(site, "agents/a/tags") == []
        put = await post(site, "agents/a/tags", add=["radiology", "3rd floor"])
        assert put.json() == ["3rd floor", "radiology"]
        taken = await post(site, "agents/a/tags", remove=["3rd floor", "never there"])
        assert taken.json() == ["radiology"]
        members = {member["name"]: member["tags"] for member in await get(site, "agents")}
        assert members == {"a": ["radiology"], "b": []}
        many = await post(site, "agents/a/tags", add=[f"t{number}" for number in range(32)])
        assert many.status_code == 409

    with_server(scenario)


def test_a_budget_is_set_and_unset(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.enrol("a", "s1", identity=A)
        told = await get(site, "budgets")
        assert told == {
            "setting": {"cpu_bp": 80, "bytes_per_hour": 36_000_000, "cpu_by": None, "bytes_by": None},
            "own": [],
        }
        await post(site, "budgets", reach="site", name="s1", cpu_bp=20)
        own = (await post(site, "budgets", reach="agent", name="a", bytes_per_hour=200_000)).json()["own"]
        assert [(one["reach"], one["name"], one["cpu_bp"], one["bytes_per_hour"]) for one in own] == [
            ("site", "s1", 20, None),
            ("agent", "a", None, 200_000),
        ]
        own = (await post(site, "budgets", reach="site", name="s1")).json()["own"]
        assert [one["reach"] for one in own] == ["agent"]

    with_server(scenario)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("mesh/switches", {"reach": "agent", "name": "nobody", "on": False}, 409),
        ("mesh/switches", {"reach": "site", "on": False}, 409),
        ("mesh/switches", {"reach": "fleet", "name": "a", "on": False}, 409),
        ("mesh/switches", {"reach": "fleet"}, 422),
        ("mesh/switches", {"reach": "planet", "on": True}, 422),
        ("agents/nobody/tags", {"add": ["x"]}, 409),
        ("agents/a/tags", {"add": ["with, comma"]}, 422),
        ("agents/a/tags", {"add": [" "]}, 422),
        ("agents/a/tags", {"add": ["line\nbreak"]}, 422),
        ("agents/a/tags", {"add": ["x" * 41]}, 422),
        ("budgets", {"reach": "agent", "name": "a", "cpu_bp": 0}, 422),
        ("budgets", {"reach": "agent", "name": "a", "bytes_per_hour": 10}, 422),
        ("budgets", {"reach": "agent", "name": "nobody", "cpu_bp": 10}, 409),
    ],
)
def test_what_cannot_be_controlled_is_one_problem(
    with_server: Run, path: str, body: dict[str, Any], status: int
) -> None:
    async def scenario(site: Any) -> None:
        await site.enrol("a", "s1", identity=A)
        answer = await post(site, path, **body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["title"]

    with_server(scenario)


def test_the_pages_of_a_real_server_say_what_is_controlled(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        member = await site.enrol("a", "s1", identity=A)
        await site.enrol("b", "s2", identity=B)
        await post(site, "mesh/switches", reach="site", name="s1", on=False)
        await post(site, "agents/a/tags", add=["radiology"])
        await post(site, "budgets", reach="agent", name="a", cpu_bp=7)
        async with connected(site, member) as socket:
            await say(socket, wire.Health(cpu_us=1_000, rss_kb=61_440, mesh=False))
            await say(socket, wire.Signal(test="none", body=wire.Abandon(why="")))
            while not isinstance(await hear(socket), wire.Notice):
                pass  # what was said before is taken when this is answered
            said = await get(site, "agents/a")
            assert (said["online"], said["off"]["reach"], said["tags"]) == (True, "site", ["radiology"])
            assert said["budget"] == {
                "cpu_bp": 7,
                "bytes_per_hour": 36_000_000,
                "cpu_by": "agent",
                "bytes_by": None,
            }
            assert said["vitals"]["latest"]["rss_kb"] == 61_440
            pages = {
                "/agents": "tests off",
                "/agents/a": f"Off for site s1, by {site.actor} since",
                "/services": "No service is known yet.",
                "/audit": "+radiology",
                "/settings": "Active tests are off on 1 of 2 agents.",
            }
            for path, words in pages.items():
                answer = await site.report.get(path)
                for _ in range(100):  # audit rows are written twice a second
                    if words in answer.text:
                        break
                    await asyncio.sleep(0.05)
                    answer = await site.report.get(path)
                assert words in answer.text, path
            assert "The agent says that they are off." in (await site.report.get("/agents/a")).text

    with_server(scenario)


def test_only_an_admin_is_told_the_servers_settings(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        assert {one["name"] for one in await get(site, "settings")} >= {"data", "keep_hops_days"}
        token = await asyncio.to_thread(
            create_access_token, site.settings.data, "one", scope="operate", tenant="*"
        )
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await site.report.get("/v1/settings", headers=bearer)).status_code == 403
        assert str(site.settings.data) not in (await site.report.get("/settings", headers=bearer)).text

    with_server(scenario)
