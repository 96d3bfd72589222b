"""The plan of a cycle: every pair once, nobody twice at a time."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from server.schedule import Backlog, Pair, cycle_due, slots, tournament

names = st.text(alphabet="abcdefgh", min_size=1, max_size=4)
fleets = st.dictionaries(names, st.sampled_from(["s1", "s2", "s3", "s4", "s5"]), max_size=12)


@given(st.sets(names, max_size=16))
def test_a_tournament_has_every_pair_once(agents: set[str]) -> None:
    assert sorted(tournament(agents)) == [Pair(*pair) for pair in combinations(sorted(agents), 2)]


@given(st.sets(names, min_size=2, max_size=16))
def test_every_round_of_a_tournament_has_every_agent_at_most_once(agents: set[str]) -> None:
    pairs = tournament(agents)
    in_a_round = len(agents) // 2
    for start in range(0, len(pairs), in_a_round):
        playing = [agent for pair in pairs[start : start + in_a_round] for agent in pair]
        assert len(playing) == len(set(playing))


@given(fleets)
def test_slots_have_every_pair_once(fleet: dict[str, str]) -> None:
    planned = [pair for slot in slots(fleet) for pair in slot]
    assert sorted(planned) == [Pair(*pair) for pair in combinations(sorted(fleet), 2)]


@given(fleets)
def test_no_site_is_in_two_tests_of_a_slot(fleet: dict[str, str]) -> None:
    for slot in slots(fleet):
        assert slot
        taken = [site for pair in slot for site in {fleet[pair.first], fleet[pair.second]}]
        assert len(taken) == len(set(taken))


@given(fleets, st.randoms())
def test_the_same_fleet_gets_the_same_plan(fleet: dict[str, str], random: object) -> None:
    shuffled = list(fleet.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' random.Random
    assert slots(dict(shuffled)) == slots(fleet)


@given(st.integers(2, 40))
def test_with_a_site_each_no_round_is_wasted(agents: int) -> None:
    fleet = {f"a{number:02d}": f"site-{number}" for number in range(agents)}
    assert len(slots(fleet)) <= 2 * agents - 3


@given(fleets, st.data())
def test_a_backlog_run_in_any_order_tests_every_pair_once_without_conflict(
    fleet: dict[str, str], data: st.DataObject
) -> None:
    backlog = Backlog(fleet)
    running: list[Pair] = []
    started: list[Pair] = []
    while len(backlog) or running:
        busy = {fleet[agent] for pair in running for agent in pair}
        ready = backlog.startable(busy)
        taken = [site for pair in ready for site in {fleet[pair.first], fleet[pair.second]}]
        assert len(taken) == len(set(taken))
        assert not busy & set(taken)
        started += ready
        running += ready
        running.pop(data.draw(st.integers(0, len(running) - 1)))
    assert sorted(started) == [Pair(*pair) for pair in combinations(sorted(fleet), 2)]


@given(fleets, fleets)
def test_agents_that_join_meet_everyone_once(before: dict[str, str], after: dict[str, str]) -> None:
    backlog = Backlog(before)
    backlog.join({name: site for name, site in after.items() if name not in before})
    everyone = after | before
    started: list[Pair] = []
    while len(backlog):
        started += backlog.startable(set())
    assert sorted(started) == [Pair(*pair) for pair in combinations(sorted(everyone), 2)]


@given(started_s=st.none() | st.floats(0, 1000), changed_s=st.floats(0, 1000), now_s=st.floats(1000, 3000))
def test_a_cycle_is_due_when_the_fleet_is_quiet_and_the_period_is_over(
    started_s: float | None, changed_s: float, now_s: float
) -> None:
    due = cycle_due(now_s=now_s, started_s=started_s, period_s=300, changed_s=changed_s, settle_s=2)
    assert due == (now_s - changed_s >= 2 and (started_s is None or now_s - started_s >= 300))
