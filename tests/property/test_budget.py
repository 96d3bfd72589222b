"""What a cycle tests: never more than there is to spend, what matters first, and everybody in turn."""

from dataclasses import replace
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.measurement import Rung
from analytics.wire import ProbePlan
from server.budget import (
    ATTENTION_SHARE,
    Budget,
    Choice,
    Fleet,
    budget_of,
    choose,
    cost_of,
    cycles_to_see_all,
    depths,
    learned,
    purse_after,
)
from server.history import ATTENTION, History, Outcome, after
from server.schedule import Pair

DEPTHS = depths(ProbePlan())
LIGHT, FULL = cost_of(DEPTHS.light), cost_of(DEPTHS.full)
PERIOD_US = 300_000_000

names = st.text(alphabet="abcdefgh", min_size=1, max_size=4)
fleets = st.dictionaries(names, st.sampled_from(["s1", "s2", "s3", "s4", "s5"]), max_size=10)
histories = st.builds(
    History,
    tested_us=st.integers(1, 10),
    full_us=st.integers(0, 10),
    rung=st.just(Rung.LAN),
    attention=st.integers(0, ATTENTION),
)
budgets = st.builds(
    Budget,
    cpu_us=st.integers(0, 12 * FULL.cpu_us),
    bytes=st.integers(0, 12 * FULL.bytes),
    wall_us=st.integers(0, 40 * FULL.wall_us),
)


@st.composite
def some_fleets(draw: st.DrawFn) -> Fleet:
    sites = draw(fleets)
    pairs = [Pair(*pair) for pair in combinations(sorted(sites), 2)]
    known = draw(st.dictionaries(st.sampled_from(pairs), histories)) if pairs else {}
    marked = draw(st.sets(st.sampled_from([*pairs, *sorted(sites)]), max_size=4)) if sites else set()
    dearness = draw(st.dictionaries(st.sampled_from(sorted(sites)), st.floats(0.1, 20))) if sites else {}
    return Fleet(sites=sites, history=known, important=marked, dearness=dearness)


def spent(fleet: Fleet, choices: list[Choice]) -> list[tuple[str, float, int]]:
    """CPU and bytes of each agent."""
    return [
        (
            agent,
            sum(fleet.dearness.get(agent, 1.0) * cost.cpu_us for cost in costs),
            sum(cost.bytes for cost in costs),
        )
        for agent in fleet.sites
        for costs in [[FULL if choice.full else LIGHT for choice in choices if agent in choice.pair]]
    ]


@given(some_fleets(), budgets, st.integers(0, 100))
def test_no_agent_and_no_site_spends_more_than_it_has(fleet: Fleet, budget: Budget, seed: int) -> None:
    choices = choose(fleet, DEPTHS, budget, seed=seed)
    for _, cpu_us, sent in spent(fleet, choices):
        assert cpu_us <= budget.cpu_us * (1 + 1e-9)
        assert sent <= budget.bytes
    for site in fleet.sites.values():
        taken = [c for c in choices if site in {fleet.sites[agent] for agent in c.pair}]
        assert sum((FULL if c.full else LIGHT).wall_us for c in taken) <= budget.wall_us


@given(some_fleets(), budgets, st.integers(0, 100))
def test_a_pair_is_chosen_once_and_the_same_question_has_the_same_answer(
    fleet: Fleet, budget: Budget, seed: int
) -> None:
    choices = choose(fleet, DEPTHS, budget, seed=seed)
    pairs = [choice.pair for choice in choices]
    assert len(pairs) == len(set(pairs))
    assert all(pair.first < pair.second and {*pair} <= set(fleet.sites) for pair in pairs)
    assert choose(fleet, DEPTHS, budget, seed=seed) == choices


@given(some_fleets(), budgets)
def test_what_matters_comes_before_what_changed_and_that_before_the_quiet(
    fleet: Fleet, budget: Budget
) -> None:
    def rank(pair: Pair) -> int:
        known = fleet.history.get(pair)
        return 0 if fleet.matters(pair) else 1 if known and known.attention else 2

    choices = choose(fleet, DEPTHS, budget, seed=0)
    ranks = [rank(choice.pair) for choice in choices]
    first_quiet = ranks.index(2) if 2 in ranks else len(ranks)
    assert ranks[:first_quiet] == sorted(ranks[:first_quiet])


@given(some_fleets())
def test_a_marked_pair_is_not_left_out_for_a_quiet_one(fleet: Fleet) -> None:
    """Where one light test fits into the share for attention, an agent's marked pair takes it."""
    budget = Budget(cpu_us=10**12, bytes=round(LIGHT.bytes / ATTENTION_SHARE), wall_us=10**12)
    choices = [choice.pair for choice in choose(fleet, DEPTHS, budget, seed=0)]
    marked = [Pair(*p) for p in combinations(sorted(fleet.sites), 2) if fleet.matters(Pair(*p))]
    for pair in marked:
        others = [other for other in choices if {*other} & {*pair} and fleet.matters(other)]
        assert pair in choices or others


@given(some_fleets())
def test_with_plenty_everything_is_tested_in_full(fleet: Fleet) -> None:
    plenty = Budget(cpu_us=10**12, bytes=10**12, wall_us=10**12)
    choices = choose(fleet, DEPTHS, plenty, seed=1)
    assert all(choice.full for choice in choices)
    assert sorted(choice.pair for choice in choices) == [
        Pair(*pair) for pair in combinations(sorted(fleet.sites), 2)
    ]


@settings(max_examples=40, deadline=None)
@given(
    agents=st.integers(2, 14),
    affordable=st.integers(1, 6),
    marked=st.sets(st.integers(0, 13), max_size=3),
    seed=st.integers(0, 1_000),
)
def test_every_pair_has_its_turn_within_the_bound(
    agents: int, affordable: int, marked: set[int], seed: int
) -> None:
    """2(n-2)/q + 1 cycles, q = light tests from the share that is not for attention; marks change nothing."""
    sites = {f"a{number:02d}": f"s{number}" for number in range(agents)}
    budget = Budget(
        cpu_us=round(affordable * LIGHT.cpu_us / (1 - ATTENTION_SHARE)), bytes=10**12, wall_us=10**12
    )
    bound = -(-2 * (agents - 2) // affordable) + 1
    history: dict[Pair, History] = {}
    important = frozenset(f"a{number:02d}" for number in marked if number < agents)
    last = {Pair(*pair): 0 for pair in combinations(sorted(sites), 2)}
    for cycle in range(1, 3 * bound + 2):
        fleet = Fleet(sites=sites, history=history, important=important)
        for choice in choose(fleet, DEPTHS, budget, seed=seed + cycle):
            now = Outcome(at_us=cycle * PERIOD_US, full=choice.full, rung=Rung.LAN, rtt_us=100)
            history[choice.pair] = after(history.get(choice.pair), now)
            last[choice.pair] = cycle
        assert cycle - min(last.values()) <= bound


@given(some_fleets(), some_fleets(), budgets)
def test_agents_that_join_find_the_rest_of_the_budget(before: Fleet, after_: Fleet, budget: Budget) -> None:
    already = dict(choose(before, DEPTHS, budget, seed=0))
    everyone = Fleet(sites={**after_.sites, **before.sites}, dearness=before.dearness)
    more = choose(everyone, DEPTHS, budget, seed=0, already=already)
    assert not {choice.pair for choice in more} & set(already)
    both = [Choice(*item) for item in already.items()] + more
    for _, cpu_us, sent in spent(everyone, both):
        assert cpu_us <= budget.cpu_us * (1 + 1e-9)
        assert sent <= budget.bytes


def test_the_default_budget_of_a_small_fleet_has_room_for_every_test_in_full() -> None:
    budget = budget_of(period_s=300, cpu_bp=80, bytes_per_hour=36_000_000)
    sites = {f"a{number}": f"s{number}" for number in range(10)}
    assert [c.full for c in choose(Fleet(sites=sites), DEPTHS, budget, seed=0)] == [True] * 45


@given(st.floats(0.1, 20), st.integers(1, 10**6), st.integers(0, 10**9))
def test_what_a_host_costs_is_learned_within_bounds(before: float, estimated: int, measured: int) -> None:
    now = learned(before, estimated_us=estimated, measured_us=measured)
    assert 0.1 <= now <= 20
    told = min(max(measured / estimated, 0.1), 20)
    assert min(before, told) - 1e-9 <= now <= max(before, told) + 1e-9


def test_how_many_cycles_see_all_is_told() -> None:
    assert cycles_to_see_all(499_500, 19_500) == 26
    assert cycles_to_see_all(45, 45) == cycles_to_see_all(0, 0) == 1
    assert cycles_to_see_all(45, 0) == 45


# --- changes ---------------------------------------------------------------------------------------------


def outcome(**known: object) -> Outcome:
    return Outcome(**{"at_us": 2, "full": False, "rung": Rung.SRFLX, "rtt_us": 20_000, "loss_bp": 0, **known})


QUIET = after(None, outcome())


def test_a_first_test_is_no_change() -> None:
    assert QUIET.attention == 0


def test_another_rung_a_moved_round_trip_and_new_loss_are_changes() -> None:
    for changed in ({"rung": Rung.NONE}, {"rtt_us": 26_000}, {"rtt_us": 14_000}, {"loss_bp": 100}):
        assert after(QUIET, outcome(**changed)).attention == ATTENTION, changed


def test_noise_and_what_was_not_measured_are_no_changes() -> None:
    near = after(None, outcome(rtt_us=200))
    for noise in ({"rtt_us": 900}, {"rtt_us": None}, {"loss_bp": 99}):
        assert after(near, outcome(**{"rtt_us": 200, **noise})).attention == 0, noise
    assert after(QUIET, outcome(rtt_us=24_000)).attention == 0


def test_attention_wears_off() -> None:
    seen = after(QUIET, outcome(rtt_us=50_000))
    told = [seen.attention]
    while seen.attention:
        seen = after(seen, outcome(rtt_us=50_000))
        told.append(seen.attention)
    assert told == [3, 2, 1, 0]


def test_the_latest_full_test_is_remembered() -> None:
    assert after(after(None, outcome(full=True, at_us=7)), outcome(at_us=9)).full_us == 7


@given(some_fleets(), budgets, st.integers(0, 2**32), st.data())
def test_tests_once_more_are_paid_from_what_the_cycle_leaves(
    fleet: Fleet, budget: Budget, seed: int, data: st.DataObject
) -> None:
    choices = choose(fleet, DEPTHS, budget, seed=seed)
    purse = purse_after(fleet, DEPTHS, budget, dict(choices))
    again = []
    while choices and purse.pay((pair := data.draw(st.sampled_from(choices)).pair), LIGHT):
        again.append((pair, LIGHT))
    more = replace(fleet, again=tuple(again))
    joined = choose(more, DEPTHS, budget, seed=seed, already=dict(choices))
    for agent in fleet.sites:
        mine = [full for pair, full in [*choices, *joined] if agent in pair]
        used = sum((FULL if full else LIGHT).bytes for full in mine)
        used += sum(cost.bytes for pair, cost in again if agent in pair)
        assert used <= budget.bytes
