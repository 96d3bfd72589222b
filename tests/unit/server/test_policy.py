"""The policy at work: in the runner of the plan, in grants, through a real server's doors, in the report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import combinations
from typing import Any

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.identity import create
from analytics import wire
from analytics.errors import PolicyError
from analytics.measurement import Letter, Rung
from analytics.policy import Action, Judged, Limits, Policy, PolicyRules, Rule, check, most_sent
from analytics.trust import Grant, unseal
from analytics.wire import LocalOff, MeshSwitch
from server.accounts.tokens import create_access_token
from server.api.controls import Reach
from server.control import ALL_ON
from server.cycles import Cycles
from server.errors import DemandError
from server.grants import Signer
from server.pages import policy_words
from server.policing import Policing
from server.policy_file import load
from server.schedule import Pair
from tests.unit.server.test_cycles import PLAN, World, in_loop, order_in, said, switched_off
from tests.unit.server.test_signalling import hear, raw, say

Run = Callable[[Callable[[Any], Any]], None]
A, B = create("a"), create("b")
AB = Pair("a", "b")
OFF = LocalOff(since_us=1_700_000_000_000_000, by="ada", note="maintenance")
NO_AB = Rule(id="no-ab", from_="a", to="b", action=Action.DENY)
IF_NEW = {"If-Match": '"policy-0"'}


def rule(id_: str = "r1", **more: Any) -> Rule:
    return msgspec.convert({"id": id_, **more}, Rule)


def ruled(world: World, *rules: Rule) -> None:
    world.cycles.policing.policy = Policy(version=1, rules=[*rules])


def pairs_ordered(world: World, agents: dict[str, Any], seconds: int = 900) -> set[frozenset[str]]:
    """Let cycles run, each test ending at once."""
    found: set[frozenset[str]] = set()
    for _ in range(seconds):
        world.later(1)
        for name, connection in agents.items():
            for order in (one for one in said(connection) if isinstance(one, wire.TestOrder)):
                found.add(frozenset((name, order.peer)))
                world.cycles.end(name, wire.TestEnded(test=order.test, rung=Rung.LAN))
    return found


# --- the runner of the plan -------------------------------------------------------------------------------


@in_loop
async def test_a_barred_pair_is_in_no_cycle_and_does_not_count_as_put_off(world: World) -> None:
    agents = {name: world.come(name, f"s-{name}") for name in "abc"}
    ruled(world, NO_AB)
    assert pairs_ordered(world, agents) == {frozenset("ac"), frozenset("bc")}
    planner = world.cycles.planner
    assert (planner.put_off(), planner.cycles_for_all, planner.puts_off("a", "b")) == (0, 1, False)


@in_loop
async def test_a_test_on_demand_is_refused_with_the_rule_and_the_fleets_leaves_it_out(world: World) -> None:
    for name in "abc":
        world.come(name, f"s-{name}")
    ruled(world, NO_AB)
    with pytest.raises(DemandError, match="a and b: not tested by policy no-ab") as caught:
        world.cycles.demand([AB])
    assert "pathgrade policy check a b" in caught.value.remedy
    run = world.cycles.demand([AB, Pair("a", "c"), Pair("b", "c")], fleet=True)
    assert run.told().pairs == 2
    with pytest.raises(DemandError, match="no-ab"):
        world.cycles.demand([AB], fleet=True)


@in_loop
async def test_a_watched_pair_that_is_barred_is_not_watched(world: World) -> None:
    agents = {name: world.come(name, f"s-{name}") for name in "abc"}
    world.cycles.planner.watching._interval_s = 30
    world.cycles.planner.important = {AB, Pair("a", "c")}
    ruled(world, NO_AB)
    assert frozenset("ab") not in pairs_ordered(world, agents, 120)
    assert world.cycles.planner.watching.pairs == {Pair("a", "c")}


@in_loop
async def test_a_running_test_ends_when_the_policy_bars_it(world: World) -> None:
    a, b = world.come("a", "s1"), world.come("b", "s2")
    run = world.cycles.demand([AB])
    test = order_in(a).test
    said(b)
    ruled(world, NO_AB)
    world.cycles.enforce()
    assert said(a) == said(b) == [wire.TestCancel(test=test, why="not tested by policy no-ab")]
    assert run.told().results[0].error == "not tested by policy no-ab"


@in_loop
async def test_so_many_tests_an_hour_and_no_more(world: World) -> None:
    a, b = world.come("a", "s1"), world.come("b", "s2")
    ruled(world, rule(tests_per_hour=2))
    for _ in range(2):
        world.cycles.demand([AB])
        test = order_in(a).test
        said(b)
        for name in AB:
            world.cycles.end(name, wire.TestEnded(test=test, rung=Rung.LAN))
    with pytest.raises(DemandError, match="not tested by policy r1: 2 an hour, the next in 60 min"):
        world.cycles.demand([AB])
    assert pairs_ordered(world, {"a": a, "b": b}, 1_000) == set()  # nor in a cycle
    world.now_s += 2_700
    world.cycles.demand([AB])


@in_loop
async def test_a_test_in_full_that_the_policy_cut_down_counts_as_one(world: World) -> None:
    a, _ = world.come("a", "s1"), world.come("b", "s2")
    ruled(world, rule(probes=50))
    world.later(3)
    order = order_in(a)
    assert (order.plan.probes, order.plan.trains > 0) == (50, True)  # of a new pair, all but the probes
    world.end(order, *AB)
    assert world.cycles.planner.history[AB].full_us == int(world.now_s * 1e6)


@in_loop
async def test_a_step_and_a_demand_judge_the_fleet_once_and_too_many_pairs_not_at_all(world: World) -> None:
    for name in "abcdefgh":
        world.come(name, f"s-{name}")
    ruled(world, NO_AB)
    asked: list[int | None] = []
    judged = world.cycles.policing.judged

    def counted(at_us: int | None = None) -> Judged:
        asked.append(at_us)
        return judged(at_us)

    world.cycles.policing.judged = counted  # type: ignore[method-assign]  # it counts, nothing else
    every = {Pair(*pair) for pair in combinations("abcdefgh", 2)}
    assert world.cycles.demand(every, fleet=True).told().pairs == len(every) - 1
    assert len(asked) <= 2  # once for what was asked for, once for the step that starts it
    asked.clear()
    with pytest.raises(DemandError, match="at most 5000"):
        world.cycles.demand({Pair("x", f"y{number}") for number in range(5_001)}, fleet=True)
    assert not asked


@in_loop
async def test_hours_begin_and_end(world: World) -> None:
    world.now_s = 1_800_000_000 + 3_540  # 2027-01-15, 08:59 UTC
    agents = {"a": world.come("a", "s1"), "b": world.come("b", "s2")}
    ruled(world, rule("night", action="deny", hours="09:00-17:00"))
    world.cycles.demand([AB])
    for connection in agents.values():
        said(connection)
    world.now_s += 60
    with pytest.raises(DemandError, match="night"):
        world.cycles._allowed({AB}, some=False)
    world.now_s += 8 * 3_600
    world.cycles._allowed({AB}, some=False)


@in_loop
async def test_the_grant_says_how_much_and_by_which_rule_and_the_order_asks_for_no_more(world: World) -> None:
    signer = Signer(Ed25519PrivateKey.generate())
    clock = lambda: world.now_s  # noqa: E731  # as the world's own
    world.cycles = Cycles(
        world.hub, world.audit, PLAN, clock=clock, wall_us=lambda: int(world.now_s * 1e6), signer=signer
    )
    a, b = world.come("a", "s1"), world.come("b", "s2")
    for connection, identity in ((a, A), (b, B)):
        object.__setattr__(connection.agent, "fingerprint", identity.fingerprint)
    ruled(world, rule("lean", **{"from": "a", "probes": 50}), rule("small", bytes=100_000))
    world.later(3)
    order = order_in(a)
    grant = Grant.decode(unseal(order.grant, signer.public_key))
    assert order.plan.probes == grant.most_probes == 50
    assert (order.plan.trains, grant.rule) == (0, "lean+small")
    assert most_sent(order.plan) == grant.most_bytes <= 100_000
    assert order.deadline_us == grant.most_s * 1_000_000
    assert (grant.src_site, grant.dst_site) == ("s1", "s2")


def test_a_rule_whose_zone_the_host_lost_denies_always_or_never_allows_and_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone = {"zone": "Mars/Olympus", "hours": "07:00-07:01"}
    rules = [
        rule("no-ab", action="deny", to="b", **gone),
        rule("ab", **gone),
        rule("always", to="d", zone="Mars/Olympus", probes=8),
        rule("else", probes=9),
    ]
    policing = Policing(clock=lambda: 0.0, sites=lambda: dict.fromkeys("abcd", "s1"), wall_us=lambda: 0)
    policing.policy = made = Policy(version=1, rules=rules)
    judged = policing.judged()
    assert [judged.of("a", other).rule for other in "bcd"] == ["no-ab", "else", "always+else"]
    assert [one.args for one in caplog.records if one.levelname == "ERROR"] == [("no-ab",), ("ab",)]
    assert policing.policy == made  # as it was set, for who reads it


# --- the switch on an agent's own host --------------------------------------------------------------------


@in_loop
async def test_what_a_host_switched_off_nobody_here_orders_or_switches_on(world: World) -> None:
    a, b = world.come("a", "s1"), world.come("b", "s2")
    world.later(3)
    test = order_in(a).test
    said(b)
    world.cycles.switched_there(a, OFF)
    assert [type(one) for one in said(b)] == [wire.TestCancel]
    said(a)
    with pytest.raises(DemandError, match="on its own host, by ada") as caught:
        world.cycles.demand([AB])
    assert "pathgrade agent mesh on" in caught.value.remedy
    world.cycles.obey(switched_off(Reach.AGENT, "a"))
    world.cycles.obey(ALL_ON)
    world.later(1_000)
    assert not any(isinstance(one, wire.TestOrder) for one in (*said(a), *said(b)))
    assert world.hub.mesh_sites() == {"b": "s2"}
    world.cycles.switched_there(a, None)
    assert said(a) == [MeshSwitch(on=True)]
    world.later(1_000)
    assert order_in(a).test != test


def test_a_server_tells_who_switched_off_on_the_host_also_after_it_connects_again(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        member = await site.enrol("a", "s1", identity=A)
        await site.enrol("b", "s2", identity=B)
        off = {"local_off": OFF, "passive_off": OFF}
        for hello in (wire.Hello(version="1", boot="b"), wire.Hello(version="1", boot="b", **off)):
            async with raw(site, member) as socket:
                await say(socket, hello)
                await say(socket, wire.Health(cpu_us=1, rss_kb=1, mesh=False, **off))
                await say(socket, wire.Signal(test="none", body=wire.Abandon(why="")))
                while not isinstance(await hear(socket), wire.Notice):
                    pass
                info = (await site.report.get("/v1/agents/a")).json()
                assert info["local_off"] == info["passive_off"] == msgspec.to_builtins(OFF)
                assert info["off"] is None
                words = "Switched off on its own host since 2023-11-14 22:13:20 UTC by ada: maintenance."
                page, pages = [(await site.report.get(url)).text for url in ("/agents/a", "/agents")]
                assert words in page
                seen = "off by the host since 2023-11-14 22:13:20 UTC by ada: maintenance"
                assert page.count(seen) == 2  # in the head, and beside what passive capture saw
                assert "tests off on its host" in pages
                assert "passive off by the host" in pages
                status = (await site.report.get("/v1/status")).json()
                assert (status["agents_off"], [*status["off_there"]]) == (1, ["a"])
                assert [*status["passive_off_there"]] == ["a"]
        rows = []
        while len(rows) < 2:  # written within half a second
            rows = (await site.report.get("/v1/audit", params={"action": "switch"})).json()
            await asyncio.sleep(0.05)
        whose = {(row["actor"], row["subject"], row["detail"].partition(" since")[0]) for row in rows}
        assert whose == {("a", "a", f"{what}=off on its own host by='ada'") for what in ("mesh", "passive")}
        assert len(rows) == 2  # one a change, however often it is said

    with_server(scenario)


# --- the doors --------------------------------------------------------------------------------------------


async def put(site: Any, rules: list[dict[str, Any]], **headers: str) -> httpx.Response:
    return await site.report.put("/v1/policy", json={"rules": rules}, headers=headers or IF_NEW)  # type: ignore[no-any-return]  # the site is Any


def test_a_policy_is_set_checked_audited_and_kept(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        for name, where, identity in (("a", "s1", A), ("b", "s2", B)):
            await site.enrol(name, where, identity=identity)
        empty = await site.report.get("/v1/policy")
        assert (empty.json()["version"], empty.headers["etag"]) == (0, '"policy-0"')
        await site.report.post("/v1/agents/b/tags", json={"add": ["lab"]})
        rules = [{"id": "no-lab", "to": "tag:lab", "action": "deny", "days": ["sat", "sun"], "note": "quiet"}]
        answer = await put(site, rules)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["version"], answer.headers["etag"]) == (1, '"policy-1"')
        assert answer.json()["by"] == site.actor
        checks = {"2026-11-28T12:00Z": False, "2026-11-27T12:00Z": True}
        for at, allowed in checks.items():
            told = (
                await site.report.get("/v1/policy/check", params={"src": "a", "dst": "b", "at": at})
            ).json()
            assert told["ruling"]["allowed"] is allowed
        assert told["says"] == "a and b may test each other: no rule is about them"
        page = (await site.report.get("/settings")).text
        assert "no-lab" in page
        assert "sat, sun UTC" in page
        assert (await site.report.get("/v1/policy", headers={"If-None-Match": '"policy-1"'})).status_code in (
            200,
            304,
        )
        for _ in range(100):
            rows = (await site.report.get("/v1/audit", params={"action": "policy"})).json()
            if rows:
                break
            await asyncio.sleep(0.05)
        assert rows[0]["subject"] == "version 1"
        assert rows[0]["detail"] == "rules=1 no-lab"
        assert site.running.realms.of("default").desk._state.policies.read("default").rules[0].id == "no-lab"

    with_server(scenario)


NO_POLICIES: list[tuple[list[dict[str, Any]], dict[str, str], int, str]] = [
    ([], {"If-Match": '"policy-7"'}, 412, "version 0 by now"),
    ([], {"X": "y"}, 428, "in place of one that was seen"),
    ([{"id": "x", "from": "site:"}], IF_NEW, 422, "from"),
    ([{"id": "x", "hours": "25:00-26:00"}], IF_NEW, 422, "hours"),
    ([{"id": "x", "hours": "07:00-07:00"}], IF_NEW, 422, "none"),
    ([{"id": "x", "hours": "07:00-08:00", "zone": "Mars/Olympus"}], IF_NEW, 422, "Mars/Olympus"),
    ([{"id": "x", "zone": "../etc/passwd"}], IF_NEW, 422, "zone"),
    ([{"id": "x"}, {"id": "x"}], IF_NEW, 422, "'x'"),
    ([{"id": "x", "action": "deny", "probes": 3}], IF_NEW, 422, "limits what it denies"),
    ([{"id": "x", "bytes": 5}], IF_NEW, 422, "bytes"),
    ([{"id": "x", "what": 5}], IF_NEW, 422, "what"),
    ([{"id": f"r{n}"} for n in range(201)], IF_NEW, 422, "200"),
]


def test_what_is_no_policy_is_one_problem_and_only_an_admin_sets_one(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        for rules, headers, status, word in NO_POLICIES:
            answer = await put(site, rules, **headers)
            assert answer.status_code == status, answer.text
            assert word in answer.text
        token = await asyncio.to_thread(
            create_access_token, site.settings.data, "op", scope="operate", tenant="default"
        )
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await put(site, [], **IF_NEW, **bearer)).status_code == 403
        assert (await site.report.get("/v1/policy", headers=bearer)).json()["version"] == 0

    with_server(scenario)


def test_a_policy_survives_a_restart_and_is_of_its_tenant(settings: Any, with_server: Run) -> None:
    async def set_it(site: Any) -> None:
        assert (await put(site, [{"id": "x"}])).status_code == 200
        assert site.running.realms.of("default").cycles.policing.policy.version == 1

    with_server(set_it)

    async def look(site: Any) -> None:
        assert (await site.report.get("/v1/policy")).json()["rules"][0]["id"] == "x"

    with_server(look)


def test_barred_paths_are_not_expected_and_say_which_rule(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        for name, where, identity in (("a", "s1", A), ("b", "s2", B)):
            await site.enrol(name, where, identity=identity)
        assert (await site.report.get("/v1/status")).json()["paths_expected"] == 2
        await put(site, [{"id": "no-ab", "from": "a", "to": "b", "action": "deny"}])
        status = (await site.report.get("/v1/status")).json()
        assert (status["paths_expected"], status["paths_barred"], status["paths_measured"]) == (0, 2, 0)
        rows = (await site.report.get("/v1/paths")).json()["paths"]
        assert {(row["src"], row["dst"]) for row in rows} == {("a", "b"), ("b", "a")}
        for row in rows:
            assert row["policy"] == "no-ab"
            assert row["grade"]["letter"] == Letter.UNKNOWN
            assert row["grade"]["reason"] == "not tested by policy no-ab"
        page = (await site.report.get("/paths/a/b")).text
        assert "not tested: policy rule" in page
        refused = await site.report.post("/v1/mesh/runs", json={"src": "a", "dst": "b"})
        assert refused.status_code == 409

    with_server(scenario)


# --- as a file --------------------------------------------------------------------------------------------


def test_a_file_is_read_whole_and_written_the_same(tmp_path: Any) -> None:
    rules = [
        rule("one", **{"from": "site:s1", "to": "tag:3rd floor", "hours": "22:00-06:00", "days": ["mon"]}),
        rule("two", action="deny", note='say "no" \\ \x7f'),
        rule("three", tests_per_hour=3, probes=9, bytes=100_000, zone="Europe/Berlin"),
    ]
    path = tmp_path / "policy.toml"
    path.write_text(policy_words.toml(Policy(version=3, rules=rules, by="ada", since_us=1)), "utf-8")
    assert load(path) == PolicyRules(rules=rules)
    path.write_text("")
    assert load(path) == PolicyRules()


@pytest.mark.parametrize(
    "text", ["[[rules]]\n", "rules = 3", "[[rules", '[[rules]]\nid="x"\nprobes=0', "\x00"]
)
def test_a_file_that_does_not_hold_is_one_clear_error(tmp_path: Any, text: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=r"policy\.toml") as caught:
        load(path)
    assert caught.value.remedy


def test_a_rule_that_denies_has_no_limits() -> None:
    with pytest.raises(PolicyError):
        check([rule(action="deny", tests_per_hour=1)])
    assert Limits() == Limits(tests_per_hour=None, probes=None, bytes=None)
