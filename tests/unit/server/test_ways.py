"""What is remembered of a pair, and what never outlives its use."""

from hypothesis import given
from hypothesis import strategies as st

from analytics.measurement import Rung
from server.schedule import Pair
from server.ways import EXPIRES_S, FULL_EVERY, Ways

PAIR = Pair("a", "b")
RUNGS = [Rung.LAN, Rung.IPV6, Rung.SRFLX, Rung.RELAY_UDP]


def test_what_worked_comes_first_but_every_twelfth_time() -> None:
    ways = Ways()
    assert ways.first_rung(PAIR, RUNGS, 0) is None
    tried = []
    for test in range(2 * FULL_EVERY + 1):
        ways.heard(PAIR, Rung.SRFLX, test)
        tried.append(ways.first_rung(PAIR, RUNGS, test))
    full = [n for n, rung in enumerate(tried, 1) if rung is None]
    assert full == [FULL_EVERY, 2 * FULL_EVERY]


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
