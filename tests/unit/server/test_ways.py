"""What is remembered of a pair, and what never outlives its use."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from analytics.measurement import Rung
from server.schedule import Pair
from server.ways import EXPIRES_S, FULL_AFTER, FULL_EVERY, Ways

PAIR = Pair("a", "b")
RUNGS = [Rung.LAN, Rung.IPV6, Rung.SRFLX, Rung.RELAY_UDP]


def full_ladders(ways: Ways, tests: int) -> list[int]:
    """Which of the tests to come go down the whole ladder; each ends at the rung that is remembered."""
    full = []
    for test in range(1, tests + 1):
        ways.heard(PAIR, Rung.SRFLX, test)
        if ways.first_rung(PAIR, RUNGS, test) is None:
            full.append(test)
    return full


def test_what_worked_comes_first_and_the_whole_ladder_ever_more_seldom() -> None:
    ways = Ways()
    assert ways.first_rung(PAIR, RUNGS, 0) is None
    full = full_ladders(ways, 150)
    gaps = [after - before for before, after in pairwise([0, *full])]
    assert gaps[:11] == list(range(FULL_AFTER, FULL_EVERY + 1))
    assert {*gaps[11:]} == {FULL_EVERY}


def test_a_pair_that_fell_is_soon_tried_from_the_top() -> None:
    ways = Ways()
    full_ladders(ways, 100)
    ways.heard(PAIR, Rung.RELAY_UDP, 101)
    tried = [ways.first_rung(PAIR, RUNGS, 101) for _ in range(FULL_AFTER)]
    assert tried == [Rung.RELAY_UDP, None]


def test_a_pair_that_broke_starts_over_and_a_better_rung_replaces() -> None:
    ways = Ways()
    ways.heard(PAIR, Rung.RELAY_UDP, 0)
    ways.heard(PAIR, Rung.SRFLX, 1)
    assert ways.first_rung(PAIR, RUNGS, 2) is Rung.SRFLX
    ways.heard(PAIR, Rung.NONE, 3)
    assert ways.first_rung(PAIR, RUNGS, 4) is None


def test_it_expires_and_knows_only_rungs_that_are_there() -> None:
    ways = Ways()
    ways.heard(PAIR, Rung.SRFLX, 0)
    assert ways.first_rung(PAIR, RUNGS, EXPIRES_S + 1) is None
    ways.heard(PAIR, Rung.RELAY_TLS, 0)
    assert ways.first_rung(PAIR, RUNGS, 1) is None


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(list(Rung)))))
def test_it_is_bounded_and_keeps_the_latest(told: list[tuple[int, Rung]]) -> None:
    ways = Ways(most=5)
    for at_s, (peer, rung) in enumerate(told):
        pair = Pair("a", f"p{peer}")
        ways.heard(pair, rung, at_s)
        assert len(ways) <= 5
    if told and told[-1][1] is not Rung.NONE:
        ways = Ways(most=5)
        for peer, rung in told:
            ways.heard(Pair("a", f"p{peer}"), rung, 0)
        last, rung = told[-1]
        assert ways.first_rung(Pair("a", f"p{last}"), [rung], 0) is rung
