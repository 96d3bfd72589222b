import math

import pytest
from benches.bounds import at_most, interval, off
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("lost", "sent", "low", "high"),
    [
        # R: binom.test(lost, sent)$conf.int
        (4, 4_000, 0.0002725, 0.0025583),
        (0, 300, 0.0, 0.0122209),
        (50, 1_000, 0.0373354, 0.0653905),
        (10, 10, 0.6915029, 1.0),
    ],
)
def test_the_interval_is_that_of_clopper_and_pearson(lost, sent, low, high):
    assert interval(lost, sent) == pytest.approx((low, high), abs=1e-6)


@settings(max_examples=30, deadline=None)  # a busy machine is no failure
@given(st.integers(1, 500).flatmap(lambda sent: st.tuples(st.integers(0, sent), st.just(sent))))
def test_the_rate_itself_is_inside(counts):
    lost, sent = counts
    low, high = interval(lost, sent)
    assert low <= lost / sent <= high


def test_what_chance_adds_up_to():
    assert at_most(10, 10, 0.3) == pytest.approx(1)
    assert at_most(0, 10, 0.3) == pytest.approx(0.7**10)


def test_the_same_rate_is_not_off_and_the_end_of_the_interval_is_one_off():
    assert off(20, 2_000, 10, 1_000) == 0
    low, high = interval(50, 1_000)
    assert off(round(high * 1e6), 1_000_000, 50, 1_000) == pytest.approx(1, abs=1e-3)
    assert off(round(low * 1e6), 1_000_000, 50, 1_000) == pytest.approx(1, abs=1e-3)
    assert off(0, 1_000, 50, 1_000) > 1


def test_a_loss_where_the_link_lost_nothing_is_judged_by_what_it_may_have_hidden():
    assert off(0, 100, 0, 1_000) == 0
    assert off(1, 10, 0, 1_000) > 1


def test_all_lost_is_as_told_or_far_off():
    assert off(100, 100, 100, 100) == 0
    assert math.isfinite(off(0, 100, 100, 100))
