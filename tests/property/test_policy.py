"""What rules can and cannot do, whatever they are."""

from __future__ import annotations

from itertools import combinations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from analytics.policy import (
    Action,
    Day,
    Judged,
    Limits,
    Rule,
    Who,
    both_ways,
    lasts,
    most_sent,
    narrower,
    within,
)
from analytics.wire import ProbePlan

NAMES, SITES, TAGS = ("a", "b", "c", "d"), ("s1", "s2"), ("red", "3rd floor")
WHOS = st.builds(
    Who, st.sampled_from(NAMES), st.sampled_from(SITES), st.frozensets(st.sampled_from(TAGS), max_size=2)
)
SELECTORS = st.sampled_from(["*", *NAMES, *(f"site:{s}" for s in SITES), *(f"tag:{t}" for t in TAGS)])
HOURS = st.none() | st.sampled_from(["07:00-19:00", "22:00-06:00", "00:00-24:00", "12:30-12:31"])
ALLOWING = st.builds(
    Rule,
    id=st.sampled_from(["r1", "r2", "r3"]),
    from_=SELECTORS,
    to=SELECTORS,
    hours=HOURS,
    days=st.lists(st.sampled_from(Day), unique=True, max_size=3),
    zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    tests_per_hour=st.none() | st.integers(1, 60),
    probes=st.none() | st.integers(1, 1000),
    bytes=st.none() | st.integers(100_000, 1_000_000),
)
DENYING = st.builds(
    Rule, id=st.just("no"), from_=SELECTORS, to=SELECTORS, hours=HOURS, action=st.just(Action.DENY)
)
RULES = st.lists(ALLOWING | DENYING, max_size=6)
MOMENTS = st.integers(0, 2_000_000_000_000_000)
FLEETS = st.lists(WHOS, unique_by=lambda who: who.name, max_size=4)
PLANS = st.builds(
    ProbePlan,
    probes=st.integers(1, 10_000),
    hop_rounds=st.integers(0, 60),
    max_ttl=st.integers(1, 64),
    trains=st.integers(0, 8),
    train_packets=st.integers(16, 200),
    train_bytes=st.integers(200, 1_400),
)


def may(rules: list[Rule], fleet: list[Who], at_us: int) -> set[tuple[str, str]]:
    return {
        (one.name, other.name)
        for one, other in combinations(fleet, 2)
        if both_ways(rules, one, other, at_us).allowed
    }


@given(RULES, DENYING, st.integers(0, 6), FLEETS, MOMENTS)
def test_a_deny_rule_only_takes_pairs_away(
    rules: list[Rule], more: Rule, place: int, fleet: list[Who], at_us: int
) -> None:
    assert may([*rules[:place], more, *rules[place:]], fleet, at_us) <= may(rules, fleet, at_us)


@given(RULES, WHOS, WHOS, MOMENTS)
def test_a_pair_is_judged_alike_from_either_end(rules: list[Rule], one: Who, other: Who, at_us: int) -> None:
    assert both_ways(rules, one, other, at_us) == both_ways(rules, other, one, at_us)


@given(st.lists(ALLOWING, max_size=6), FLEETS, MOMENTS)
def test_without_a_deny_rule_all_is_allowed(rules: list[Rule], fleet: list[Who], at_us: int) -> None:
    assert len(may(rules, fleet, at_us)) == len(fleet) * (len(fleet) - 1) // 2


@given(RULES, FLEETS, MOMENTS)
def test_many_pairs_are_judged_as_each_alone(rules: list[Rule], fleet: list[Who], at_us: int) -> None:
    judged = Judged(rules, {who.name: who for who in fleet}, at_us)
    pairs = [*combinations(fleet, 2)]
    for one, other in pairs:
        alone = both_ways(rules, one, other, at_us)
        assert judged.of(one.name, other.name) == judged.of(other.name, one.name) == alone
    assert judged.barred(who.name for who in fleet) == len(pairs) - len(may(rules, fleet, at_us))


@given(st.lists(st.builds(Limits, probes=st.none() | st.integers(1, 9)), max_size=4))
def test_of_several_limits_the_narrowest_holds(limits: list[Limits]) -> None:
    told = [one.probes for one in limits if one.probes is not None]
    assert narrower(limits).probes == (min(told) if told else None)


@given(
    PLANS,
    st.builds(
        Limits, probes=st.none() | st.integers(1, 9_999), bytes=st.none() | st.integers(100_000, 10**7)
    ),
)
def test_a_plan_that_was_cut_is_within_its_limits_and_no_larger(plan: ProbePlan, limits: Limits) -> None:
    cut = within(plan, limits)
    assert most_sent(cut) <= most_sent(plan)
    assert limits.bytes is None or most_sent(cut) <= limits.bytes
    assert cut.probes <= min(plan.probes, limits.probes or plan.probes)
    assert within(cut, limits) == cut
    assert msgspec.json.decode(msgspec.json.encode(cut), type=ProbePlan) == cut


@given(MOMENTS, st.lists(st.sampled_from(Day), unique=True))
def test_the_day_and_the_night_share_each_moment(at_us: int, days: list[Day]) -> None:
    day, night = (lasts(hours, [], "Europe/Berlin", at_us) for hours in ("06:00-22:00", "22:00-06:00"))
    assert day is not night
    some = [lasts("22:00-06:00", [one], "UTC", at_us) for one in Day]
    assert sum(some) == lasts("22:00-06:00", [], "UTC", at_us)  # the night is of one day
