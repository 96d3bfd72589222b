from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.mesh.budget import HOUR_NS, Budget


def test_what_was_spent_comes_back_after_an_hour() -> None:
    budget = Budget(100)
    assert budget.take(0, 60)
    assert not budget.take(1, 41)
    assert budget.take(2, 40)
    assert budget.left(HOUR_NS - 1) == 0
    assert budget.left(HOUR_NS) == 60
    assert budget.left(HOUR_NS + 2) == 100


def test_what_was_not_needed_is_put_back() -> None:
    budget = Budget(100)
    budget.take(0, 90)
    budget.give_back(80)
    assert budget.left(0) == 90
    assert not Budget(0).take(0, 1)


@given(st.lists(st.tuples(st.integers(0, HOUR_NS // 3), st.integers(0, 60), st.integers(0, 60))))
def test_no_hour_sees_more_than_the_budget(wants: list[tuple[int, int, int]]) -> None:
    budget, now_ns, spent = Budget(100), 0, []
    for pause_ns, wanted, unused in wants:
        now_ns += pause_ns
        if budget.take(now_ns, wanted):
            budget.give_back(min(unused, wanted))
            spent.append((now_ns, wanted - min(unused, wanted)))
        assert sum(taken for at, taken in spent if at > now_ns - HOUR_NS) <= 100
