"""Loss: called by two readings at least, dated to the first, frozen while it is on, over when it is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.loss_change import NO_LOSS, THRESHOLD, Loss, after

READINGS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 5)), max_size=60)


def told(readings: list[tuple[int, int]]) -> list[Loss]:
    found = [NO_LOSS]
    for number, (sent, lost) in enumerate(readings, start=1):
        found.append(after(found[-1], at_us=number, sent=sent, lost=min(lost, sent)))
    return found[1:]


@given(READINGS)
def test_more_loss_is_never_called_later(story: list[tuple[int, int, int]]) -> None:
    less = told([(sent, lost) for sent, lost, _ in story])
    more = told([(sent, lost + extra) for sent, lost, extra in story])

    def first(found: list[Loss]) -> int:
        return next((n for n, one in enumerate(found) if one.since_us is not None), len(found))

    assert first(more) <= first(less)


@given(READINGS)
def test_the_sum_stays_within_its_bounds(story: list[tuple[int, int, int]]) -> None:
    for number, one in enumerate(told([(sent, lost) for sent, lost, _ in story]), start=1):
        assert 0 <= one.sum < THRESHOLD
        assert one.since_us is None or 1 <= one.since_us <= number
        assert 0 <= one.lost <= one.sent


def test_one_reading_alone_calls_nothing_however_bad() -> None:
    assert told([(300, 0), (80, 80), (80, 0), (80, 0), (300, 0)])[-1] == NO_LOSS


def test_loss_is_dated_to_its_first_reading_and_its_share_told() -> None:
    found = told([(20, 0), (20, 1), (80, 2), (80, 2)])
    assert [one.since_us for one in found] == [None, None, None, 2]
    assert found[-1].share == 5 / 180


def test_it_is_frozen_while_it_is_on_and_over_after_as_much_evidence() -> None:
    on = [(80, 4)] * 3
    assert {one.since_us for one in told([*on, *[(80, 4)] * 50])[2:]} == {1}
    calm = told([*on, *[(80, 0)] * 6])
    assert [one.since_us for one in calm[3:]] == [1, 1, 1, 1, 1, None]


def test_nothing_sent_says_nothing_and_more_lost_than_sent_is_refused() -> None:
    assert after(NO_LOSS, at_us=1, sent=0, lost=0) is NO_LOSS
    with pytest.raises(ValueError, match="3 of 2"):
        after(NO_LOSS, at_us=1, sent=2, lost=3)
