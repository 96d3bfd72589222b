"""Letters that hold: worse input never raises one, constant input makes none flap, large falls show."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.hysteresis import ORDER, S_US, WINDOW_US, Held, Seen, after
from analytics.measurement import Letter

RANKS = st.integers(0, len(ORDER) - 1)
EVALUATIONS = st.lists(
    st.tuples(st.integers(1, 400), RANKS, st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=80
)


def held(evaluations: Sequence[tuple[int, int, int]]) -> list[Held]:
    """The story of (seconds since the last, rank, more rank in the dead band)."""
    found: list[Held] = []
    now_us = 0
    for seconds, rank, more in evaluations:
        now_us += seconds * S_US
        firm = ORDER[min(len(ORDER) - 1, rank + more)]
        found.append(after(found[-1] if found else None, Seen(now_us, ORDER[rank], firm)))
    return found


def shown(*letters: str, every_s: int = 10) -> str:
    return "".join(one.letter.value for one in held([(every_s, ORDER.index(Letter(x)), 0) for x in letters]))


@given(EVALUATIONS)
def test_worse_input_never_raises_the_letter(story: list[tuple[int, int, int, int]]) -> None:
    better = held([(seconds, rank, firm) for seconds, rank, firm, _ in story])
    worse = held([(seconds, min(len(ORDER) - 1, rank + more), firm) for seconds, rank, firm, more in story])
    for one, other in zip(better, worse, strict=True):
        assert ORDER.index(other.letter) >= ORDER.index(one.letter)


@given(EVALUATIONS, RANKS, st.integers(0, 1))
def test_constant_input_changes_the_letter_a_few_times_and_then_never(
    story: list[tuple[int, int, int, int]], rank: int, firm: int
) -> None:
    before = [(seconds, before, more) for seconds, before, more, _ in story]
    found = held([*before, *[(10, rank, firm)] * 120])[len(story) :]
    letters = [ORDER.index(one.letter) for one in found]
    turns = sum(a != b for a, b in pairwise(letters))
    assert turns <= 4  # down in two steps at most, up at most twice: reachable again, then as it is
    assert len(set(letters[60:])) == 1
    assert rank <= letters[-1] <= min(len(ORDER) - 1, rank + firm)


@given(EVALUATIONS)
def test_what_is_remembered_is_small_and_since_is_when_something_was_seen(
    story: list[tuple[int, int, int, int]],
) -> None:
    for one in held([(seconds, rank, firm) for seconds, rank, firm, _ in story]):
        assert one.seen[-1].at_us - one.seen[0].at_us < WINDOW_US
        assert one.began_us <= one.since_us <= one.seen[-1].at_us


@given(EVALUATIONS, st.integers(1, 60))
def test_a_path_that_cannot_be_reached_is_never_hidden(
    story: list[tuple[int, int, int, int]], every_s: int
) -> None:
    before = [(seconds, rank, firm) for seconds, rank, firm, _ in story]
    found = held([*before, *[(every_s, len(ORDER) - 1, 0)] * 3])
    assert found[-1].letter is Letter.UNREACHABLE


@given(EVALUATIONS, st.integers(0, len(ORDER) - 2))
def test_a_path_that_was_reached_twice_is_not_shown_as_unreachable(
    story: list[tuple[int, int, int, int]], rank: int
) -> None:
    before = [(seconds, before, firm) for seconds, before, firm, _ in story]
    assert held([*before, (5, rank, 0), (5, rank, 0)])[-1].letter is not Letter.UNREACHABLE


def test_one_letter_takes_four_of_six() -> None:
    assert shown(*"AAAAAABBBB") == "AAAAAAAAAB"
    assert shown(*"AAAAAABABABB") == "AAAAAAAAAAAB"
    assert shown(*"AAAAAABBBAAABBB") == "A" * 15


def test_a_large_fall_shows_at_the_second_and_its_last_step_with_the_fourth() -> None:
    assert shown(*"AAAAAADDDD") == "AAAAAAACCD"
    assert shown(*"AAAAAADAAAAA") == "A" * 12


def test_failures_are_shown_as_f_at_the_second_and_as_unreachable_at_the_third() -> None:
    assert shown(*"AAAAAAXXX") == "AAAAAAAFX"
    assert shown(*"AAAAAAXX", every_s=30)[-1] == "X"
    assert shown(*"AAAAAAXAXA") == "A" * 10


def test_better_takes_five_minutes_beyond_the_dead_band() -> None:
    up = held([(10, 2, 0)] * 31 + [(10, 0, 0)] * 40)
    letters = "".join(one.letter.value for one in up)
    assert letters == "C" * (31 + 29) + "A" * 11
    assert up[-1].since_us == up[31].seen[-1].at_us
    near = held([(10, 2, 0)] * 31 + [(10, 1, 1)] * 100)  # B, but C if it were 10 % worse
    assert {one.letter for one in near} == {Letter.C}


def test_one_test_in_a_cycle_is_taken_at_its_word() -> None:
    assert shown(*"ACAXA", every_s=301) == "ACAXA"


def test_a_letter_withheld_is_no_evaluation() -> None:
    with pytest.raises(ValueError, match="says nothing"):
        after(None, Seen(1, Letter.UNKNOWN, Letter.A))
    first = after(None, Seen(5, Letter.A, Letter.A))
    with pytest.raises(ValueError, match="after one of 5"):
        after(first, Seen(5, Letter.B, Letter.B))
