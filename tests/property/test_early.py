"""Early turns: few, ever later, and none for who was tested well."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from server.early import WAITS_S, EarlyTurns, turn_after
from server.schedule import Pair

pairs = st.sampled_from([Pair("a", "b"), Pair("a", "c"), Pair("b", "c")])
steps = st.lists(
    st.tuples(pairs, st.floats(0.0, 60.0), st.booleans(), st.booleans(), st.booleans()), max_size=60
)


@given(st.integers(0, 10), st.floats(0, 1e9))
def test_a_turn_is_later_than_the_one_before_it_and_there_are_three(tried: int, now_s: float) -> None:
    turn = turn_after(tried, now_s)
    assert (turn is not None) == (tried < 3)
    if turn is not None:
        assert turn.next_s - now_s >= 10 * 2**tried - 1e-3


@given(steps)
def test_no_pair_is_tried_more_than_three_times_nor_sooner_than_it_may(
    told: list[tuple[Pair, float, bool, bool, bool]],
) -> None:
    """Whatever is heard in whatever order, of one first test each."""
    turns, now_s = EarlyTurns(), 0.0
    began: dict[Pair, list[float]] = {}
    known: set[Pair] = set()
    for pair, wait_s, worked, heard, away in told:
        now_s += wait_s
        for due in turns.due(now_s):
            if away:
                turns.put_off(due, now_s)
            else:
                turns.started(due, now_s)
                began.setdefault(due, []).append(now_s)
        if heard:
            turns.heard(pair, now_s, worked=worked, first=pair not in known)
            known.add(pair)
        for one, starts in began.items():
            assert one in known
            assert len(starts) <= len(WAITS_S)
            assert all(later - sooner >= WAITS_S[0] for sooner, later in pairwise(starts))


@given(st.lists(pairs, max_size=10))
def test_a_pair_that_was_tested_well_is_not_repeated(some: list[Pair]) -> None:
    turns = EarlyTurns()
    for pair in some:
        turns.heard(pair, 0.0, worked=False, first=True)
    for pair in some:
        turns.heard(pair, 1.0, worked=True)
    assert turns.due(1e9) == []


@given(st.integers(0, 5), st.integers(0, 12))
def test_only_so_many_wait(most: int, came: int) -> None:
    turns = EarlyTurns(most)
    for number in range(came):
        turns.heard(Pair("a", f"b{number}"), 0.0, worked=False, first=True)
    assert len(turns) == min(most, came)
    turns.leave({"a"})
    assert len(turns) == 0
