"""Watched pairs: which the budget has room for, when they are due, and what an odd test brings about."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from analytics import wire
from analytics.batch import TableBlock, check_batch, pack_batch
from analytics.measurement import Rung
from analytics.rules.load import load_rules
from analytics.wire import ProbePlan
from server.budget import WATCH_SHARE, Fleet, budget_of, choose, cost_of, depths
from server.lately import Lately
from server.planner import CHOSEN_FROM_A_SECOND, Planner
from server.schedule import Pair
from server.watching import DEEPER, Pace, Watching, affordable, candidates, rates_of
from tests.unit.analytics.facts import AT_US, reading

PERIOD_S, INTERVAL_S = 300.0, 30.0
DEPTHS = depths(ProbePlan())
BUDGET = budget_of(period_s=PERIOD_S, cpu_bp=80, bytes_per_hour=36_000_000)
RATES = rates_of(BUDGET, PERIOD_S)
LIGHT = cost_of(DEPTHS.watch)
FLEET = Fleet(sites={name: f"site-{name}" for name in "abcdefgh"})
AB = Pair("a", "b")


def told(rtt_us: int | None = 40_000, loss_bp: int = 0, rung: Rung = Rung.SRFLX) -> dict[str, wire.TestEnded]:
    return {name: wire.TestEnded(test="t", rung=rung, rtt_p50_us=rtt_us, loss_bp=loss_bp) for name in AB}


def watching(*marked: str | Pair, sites: dict[str, str] | None = None, cpu_bp: int = 80) -> Watching:
    budget = budget_of(period_s=PERIOD_S, cpu_bp=cpu_bp, bytes_per_hour=36_000_000)
    made = Watching(DEPTHS, budget, period_s=PERIOD_S, interval_s=INTERVAL_S)
    made.choose(Fleet(sites=sites or FLEET.sites, important=frozenset(marked)), [], 0.0)
    return made


def run(made: Watching, now_s: float, ends: dict[str, wire.TestEnded] | None = None) -> list[ProbePlan]:
    """Start what is due, and end it a second later."""
    plans = []
    for pair, plan in made.due(now_s):
        made.started(pair, plan, now_s)
        made.heard(pair, ends or told(), now_s + 1)
        plans.append(plan)
    return plans


def test_the_default_budget_watches_two_pairs_of_an_agent_and_says_what_it_does_not() -> None:
    made = watching("a")
    assert len(made.pairs) == 2
    assert len(made.left_out) == 5
    assert made.pairs | made.left_out == {Pair("a", peer) for peer in "bcdefgh"}
    assert len(watching("a", cpu_bp=400).pairs) == 5  # the bytes are what decides then


def test_marked_pairs_come_before_those_of_marked_agents_and_those_before_changed_ones() -> None:
    fleet = Fleet(sites=FLEET.sites, important=frozenset({Pair("c", "d"), "a"}))
    ranked = candidates(fleet, [Pair("e", "f"), Pair("c", "d"), Pair("gone", "h")])
    assert ranked == [Pair("c", "d"), *(Pair("a", peer) for peer in "bcdefgh"), Pair("e", "f")]
    assert candidates(fleet, [], {Pair("a", "h")})[1] == Pair("a", "h")


@given(
    st.sets(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh")).filter(lambda p: p[0] < p[1])
    ),
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0.1, 20)),
    st.integers(1, 3),
)
def test_light_tests_never_take_more_than_their_share(
    wanted: set[tuple[str, str]], dearness: dict[str, float], sites: int
) -> None:
    fleet = Fleet(sites={name: f"s{ord(name) % sites}" for name in "abcdefgh"}, dearness=dearness)
    chosen = affordable([Pair(*pair) for pair in sorted(wanted)], fleet, RATES, LIGHT, INTERVAL_S)
    tests = PERIOD_S / INTERVAL_S
    for agent in fleet.sites:
        own = [pair for pair in chosen if agent in pair]
        assert len(own) * tests * LIGHT.cpu_us * dearness.get(agent, 1) <= WATCH_SHARE * BUDGET.cpu_us
        assert len(own) * tests * LIGHT.bytes <= WATCH_SHARE * BUDGET.bytes
    for site in set(fleet.sites.values()):
        own = [pair for pair in chosen if site in {fleet.sites[agent] for agent in pair}]
        assert len(own) * tests * LIGHT.wall_us <= WATCH_SHARE * BUDGET.wall_us


def test_the_first_test_is_in_full_and_then_light_ones_come_at_their_interval() -> None:
    made = watching(AB)
    assert run(made, 0.0) == [DEPTHS.full]
    assert run(made, 29.9) == []
    assert [run(made, at_s) for at_s in (30.0, 60.0, 90.0)] == [[DEPTHS.watch]] * 3


def test_an_odd_test_is_followed_by_deeper_ones_until_nothing_about_it_is_new() -> None:
    for odd in (told(60_000), told(loss_bp=500)):
        made = watching(AB, cpu_bp=800)
        for at_s in (0.0, 30.0, 60.0):
            run(made, at_s)
        assert run(made, 90.0, odd) == [DEPTHS.watch]
        plans = [plan for n in range(9) for plan in run(made, 99.0 + 9 * n, odd)]
        assert plans == [DEPTHS.quick] * DEEPER


def test_a_path_that_fails_is_tried_three_times_and_then_left_alone_for_most_of_the_time() -> None:
    pace = Pace(0.0, 0.0)
    tried_s = []
    while pace.next_s < 3_600:
        now_s = pace.next_s
        tried_s.append(now_s)
        pace.started(now_s, INTERVAL_S)
        pace.heard(told(None, rung=Rung.NONE).values() if len(tried_s) % 2 else [], now_s + 25)
    assert tried_s[:3] == [0, 30, 60]
    assert len(tried_s) * 25 <= WATCH_SHARE * 3_600 + 3 * 25


def test_one_that_agrees_again_ends_it() -> None:
    made = watching(AB)
    for at_s in (0.0, 30.0, 60.0):
        run(made, at_s)
    run(made, 90.0, told(60_000))
    assert run(made, 99.0, told(40_000)) == [DEPTHS.quick]
    assert run(made, 108.0) == []
    assert run(made, 129.0) == [DEPTHS.watch]


@given(st.lists(st.sampled_from(["calm", "odd", "lossy", "failed"]), min_size=100, max_size=200))
def test_whatever_happens_an_agent_spends_no_more_than_its_share(story: list[str]) -> None:
    """What was saved up, a cycle's worth, and the share of the time since: never more."""
    made = watching("a")
    outcomes = {
        "calm": told(),
        "odd": told(90_000),
        "lossy": told(loss_bp=2_500),
        "failed": told(None, rung=Rung.NONE),
    }
    spent_us, now_s = 0, 0.0
    for outcome in story:
        for plan in run(made, now_s, outcomes[outcome]):
            spent_us += cost_of(plan).cpu_us
        assert spent_us <= WATCH_SHARE * BUDGET.cpu_us * (1 + now_s / PERIOD_S) + 1
        now_s += 3.0


def test_a_host_that_is_too_dear_is_not_watched() -> None:
    fleet = Fleet(sites=FLEET.sites, important=frozenset({AB}), dearness={"a": 10.0})
    assert affordable([AB], fleet, RATES, LIGHT, INTERVAL_S) == []


def test_the_cycle_leaves_the_share_of_watching_alone() -> None:
    watched = Fleet(sites=FLEET.sites, important=frozenset({AB}), watched=frozenset({AB}))
    spent = dict.fromkeys(FLEET.sites, 0)
    for choice in choose(watched, DEPTHS, BUDGET, seed=1):
        for agent in choice.pair:
            spent[agent] += cost_of(DEPTHS.full if choice.full else DEPTHS.light).cpu_us
    assert max(spent["a"], spent["b"]) <= (1 - WATCH_SHARE) * BUDGET.cpu_us
    assert choose(watched, DEPTHS, BUDGET, seed=1)[0] == (AB, True)


def test_readings_of_tests_that_began_lately_are_judged_and_others_are_not() -> None:
    now_us = AT_US
    lately = Lately(load_rules(), clock=lambda: now_us)
    ends = [reading("a", "b", test="t1"), reading("b", "a", test="t1")]
    lately.take(ends)
    assert lately.told(now_us) == {}
    lately.began("t1", AB)
    lately.take(ends)
    assert set(lately.told(now_us)) == {("a", "b"), ("b", "a")}
    lately.began("t2", AB)
    now_us += 121_000_000
    lately.take([reading("a", "b", test="t2"), reading("b", "a", test="t2")])
    assert lately.told(now_us) == {}


def test_a_batch_is_unpacked_only_while_a_test_of_it_may_be_awaited() -> None:
    now_us = AT_US
    lately = Lately(load_rules(), clock=lambda: now_us)
    ends = [reading("a", "b", test="t1"), reading("b", "a", test="t1")]
    bodies = [
        pack_batch(agent=end.src, boot="6f1c0a2b9d3e4f50", batch=1, tables={"readings": [end]})
        for end in ends
    ]
    torn = TableBlock(rows=2, columns={})
    lately.hear(torn)  # nothing is awaited: not looked at
    lately.began("t1", AB)
    for body in bodies:
        lately.hear(check_batch(body).tables["readings"])
    assert set(lately.told(now_us)) == {("a", "b"), ("b", "a")}
    now_us += 121_000_000
    lately.hear(torn)


def test_of_many_pairs_that_changed_none_are_chosen_at_the_end_of_each_test() -> None:
    """When a core switch fails, thousands change, and dozens of tests end in a second."""
    sites = {f"a{n:03d}": f"s{n:03d}" for n in range(200)}
    made, chosen = Planner(DEPTHS, BUDGET, Random(1), watch_s=INTERVAL_S), 0

    def moves(pair: Pair, rtt_us: int) -> None:
        ends = {name: wire.TestEnded(test="t", rung=Rung.SRFLX, rtt_p50_us=rtt_us) for name in pair}
        made.note(pair, DEPTHS.light, ends, AT_US, full=False)

    pairs = [Pair(a, b) for a in sites for b in sites if a < b][:10_000]
    for pair in pairs:
        moves(pair, 20_000)
        moves(pair, 90_000)
    for n in range(100):
        before = made.watching.left_out
        moves(pairs[n], 20_000)
        for _ in range(3):
            moves(pairs[n], 20_000)  # calm again
        made.look_at_watched(sites, n / 100)
        chosen += made.watching.left_out != before
    assert chosen == 1
    made.important.add(Pair("a198", "a199"))
    made.look_at_watched(sites, 1.0)
    assert Pair("a198", "a199") in made.watching.pairs
    made.look_at_watched(sites, 1.0 + len(pairs) / CHOSEN_FROM_A_SECOND)
    assert not {*pairs[:100]} & (made.watching.pairs | made.watching.left_out)
