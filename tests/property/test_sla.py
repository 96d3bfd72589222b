"""The SLA report: no time is lost, doubled or made better, whatever the tests were."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from analytics.letters import BAD
from analytics.measurement import Letter
from analytics.rules.sla import load_sla_rules
from analytics.shapes import Service
from analytics.sla import LETTERS, Asked, month_of, sla_report
from analytics.stretches import (
    Graded,
    Stretch,
    basis_points,
    covered,
    incidents,
    joined,
    lengths,
    stretches,
)

SINCE, UNTIL, COUNTS = 1_000, 9_000, 900
PACS = Service(name="PACS", profile="pacs", agent="pacs", port=4242)
MONTH = month_of("2026-11")
assert MONTH is not None

TESTS = st.lists(
    st.builds(
        Graded,
        at_us=st.integers(SINCE - COUNTS, UNTIL + COUNTS),
        letter=st.sampled_from(LETTERS),
        sent=st.sampled_from([20, 300]),
    ),
    max_size=40,
)


def of(tests: list[Graded], since_us: int = SINCE, until_us: int = UNTIL) -> list[Stretch]:
    return stretches(tests, since_us, until_us, counts_for_us=COUNTS)


@given(TESTS)
def test_every_moment_has_one_letter(tests: list[Graded]) -> None:
    found = of(tests)
    assert (found[0].since_us, found[-1].until_us) == (SINCE, UNTIL)
    for before, after in itertools.pairwise(found):
        assert before.until_us == after.since_us
        assert before.letter is not after.letter
    assert lengths(found).total() == UNTIL - SINCE


@given(TESTS, st.integers(SINCE, UNTIL - 1))
def test_a_letter_is_that_of_the_last_test_that_ended_and_no_older_than_it_counts(
    tests: list[Graded], at_us: int
) -> None:
    said = [one for one in tests if one.letter is not Letter.UNKNOWN or one.sent > 20]
    newest = max((one.at_us for one in said if one.at_us <= at_us), default=None)
    (found,) = (one for one in of(tests) if one.since_us <= at_us < one.until_us)
    if newest is None or at_us - newest >= COUNTS:
        assert found.letter is Letter.UNKNOWN
    else:
        assert found.letter in {one.letter for one in said if one.at_us == newest}


@given(TESTS, st.lists(st.integers(SINCE + 1, UNTIL - 1), unique=True, max_size=5))
def test_days_put_together_are_the_month(tests: list[Graded], cuts: list[int]) -> None:
    edges = [SINCE, *sorted(cuts), UNTIL]
    days = [
        part for since_us, until_us in itertools.pairwise(edges) for part in of(tests, since_us, until_us)
    ]
    assert joined(days, SINCE, UNTIL) == of(tests)


@given(TESTS)
def test_incidents_are_all_of_the_bad_time_and_nothing_else(tests: list[Graded]) -> None:
    found = of(tests)
    down = incidents(found)
    bad = sum(us for letter, us in lengths(found).items() if letter in BAD)
    assert sum(one.length_us for one in down) == bad
    assert all(SINCE <= one.since_us < one.until_us <= UNTIL and one.letter in BAD for one in down)
    for before, after in itertools.pairwise(down):
        assert before.until_us < after.since_us


@given(st.dictionaries(st.sampled_from(LETTERS), st.integers(0, 10**15)))
def test_shares_add_up_and_are_right_to_a_basis_point(of_letter: dict[Letter, int]) -> None:
    counted = Counter(of_letter)
    points = basis_points(counted, LETTERS)
    total = counted.total()
    assert sum(points) == (10_000 if total else 0)
    for letter, bp in zip(LETTERS, points, strict=True):
        assert not total or abs(bp - 10_000 * counted[letter] / total) < 1


@given(TESTS, st.lists(st.integers(SINCE, UNTIL), min_size=2, max_size=2))
def test_what_is_not_covered_is_unknown(tests: list[Graded], cut: list[int]) -> None:
    some = joined(of(tests), *sorted(cut))
    found = covered(some, SINCE, UNTIL)
    assert lengths(found).total() == UNTIL - SINCE
    unknown = lengths(some)[Letter.UNKNOWN] + UNTIL - SINCE - abs(cut[1] - cut[0])
    assert lengths(found)[Letter.UNKNOWN] == unknown


@given(
    st.dictionaries(st.sampled_from(["home", "clinic", "gone"]), TESTS, max_size=3),
    st.integers(0, 2 * (MONTH.until_us - MONTH.since_us)),
)
def test_the_months_shares_are_the_sum_of_the_workplaces(
    tests: dict[str, list[Graded]], made_after_us: int
) -> None:
    moved = {
        name: [one._replace(at_us=MONTH.since_us + (one.at_us - SINCE) * 300_000_000) for one in own]
        for name, own in tests.items()
    }
    made_us = MONTH.since_us + made_after_us
    parts = {
        name: stretches(own, MONTH.since_us, MONTH.until_us, counts_for_us=900_000_000)
        for name, own in moved.items()
    }
    asked = Asked("default", PACS, MONTH, made_us, ["r1"], 900)
    told = sla_report(asked, parts, [], {}, load_sla_rules())
    length_us = told.until_us - told.since_us
    assert told.complete == (made_us >= MONTH.until_us)
    for place in told.workplaces:
        assert sum(share.us for share in place.shares) == length_us
        assert sum(share.bp for share in place.shares) == (10_000 if length_us else 0)
    assert sum(share.us for share in told.shares) == length_us * len(parts)
    assert told.could_bp + told.could_not_bp + told.unknown_bp == (10_000 if length_us and parts else 0)
    assert sum(one.us for one in told.owners) == sum(place.down_us for place in told.workplaces)
    for one in told.incidents:
        assert told.since_us <= one.since_us < one.until_us <= told.until_us
        assert one.ongoing == (one.until_us == told.until_us)
