"""A watched pair: light tests put together, ends in any order, another path afresh, what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from analytics.baseline import Baseline
from analytics.detect import History
from analytics.measurement import Letter, Reading, RouteChange, Rung
from analytics.paths import path_rows
from analytics.rules.load import load_rules
from analytics.shapes import PathRow
from analytics.store.store import Store
from analytics.usual import Known, Usual, with_watched
from analytics.watched import PairWatch, Watched, with_latest_tests
from analytics.window import PROBES, ROUND_TRIPS, Both, together
from tests.unit.analytics.facts import AT_US, CYCLE, MEMBERS, body, put, reading

RULES = load_rules()
S_US = 1_000_000
WAY = ("pacs", "radiologist")


def light(number: int, src: str = "pacs", dst: str = "radiologist", **changes: Any) -> Reading:
    told = {"sent": 20, "received": 20, "rtt_n": 20, "capacity_kbps": None, "test": f"t{number}", **changes}
    return reading(src, dst, **told)


def both(number: int, **changes: Any) -> list[Reading]:
    return [light(number, **changes), light(number, "radiologist", "pacs", **changes)]


FULL = {"sent": 300, "received": 300, "rtt_n": 300, "capacity_kbps": 100_000, "route_id": "r1"}


class Story:
    """One pair, tested every 30 s."""

    def __init__(self) -> None:
        self.watch = PairWatch("pacs", "radiologist")
        self.at_us = AT_US
        self.number = 0
        self.tell(**FULL)

    def tell(self, times: int = 1, every_s: int = 30, **changes: Any) -> Story:
        for _ in range(times):
            self.number += 1
            self.at_us += every_s * S_US
            for one in both(self.number, **changes):
                self.watch.take(one, RULES, self.at_us)
        return self

    @property
    def known(self) -> Watched:
        return self.watch.told(self.at_us)[WAY]

    def shown(self, profile: str = "generic") -> Letter:
        return self.known.held[profile].letter


def test_light_tests_together_support_what_one_does_not() -> None:
    known = Story().tell(12).known
    assert (known.reading.rtt_n, known.reading.sent) == (60, 20 * 12 + 300)
    assert known.reading.capacity_kbps == 100_000
    assert known.reading.test == "t1"  # whose hops are known
    assert known.held["pacs"].letter is Letter.B
    assert Story().tell(16).known.reading.sent == 300


def test_as_much_is_put_together_as_the_rules_ask_for() -> None:
    assert (RULES.samples.rtt_p95_n, RULES.samples.loss_n) == (ROUND_TRIPS, PROBES)


def test_what_is_new_is_not_diluted() -> None:
    known = Story().tell(6).tell(sent=80, received=80, rtt_n=80, rtt_us=90_000).known
    assert known.reading.rtt_p95_us == 90_000
    mixed = Story().tell(6).tell(rtt_us=90_000).known
    assert mixed.reading.rtt_p50_us == 50_000


def test_only_tests_of_one_rung_are_put_together() -> None:
    tests = [Both(*both(n, rung=rung), n * S_US) for n, rung in enumerate([Rung.RELAY_UDP, Rung.SRFLX])]
    assert together(tests).there.rtt_n == 20


@given(st.permutations([0, 1]), st.integers(1, 3))
def test_the_order_of_the_ends_and_repeats_make_no_difference(order: list[int], repeats: int) -> None:
    one, other = PairWatch("pacs", "radiologist"), PairWatch("pacs", "radiologist")
    for number in range(1, 6):
        at_us = AT_US + number * 30 * S_US
        ends = both(number, **FULL)
        for end in ends:
            one.take(end, RULES, at_us)
        for end in [ends[place] for place in order for _ in range(repeats)]:
            other.take(end, RULES, at_us)
    assert one.told(at_us) == other.told(at_us)


def test_a_step_of_one_letter_is_shown_with_the_fourth_test_and_dated_to_the_first() -> None:
    story = Story().tell(12)
    began_us = story.at_us + 2 * S_US
    deeper = {"sent": 80, "received": 80, "rtt_n": 80, "rtt_us": 80_000}
    assert story.tell(3, every_s=2, **deeper).shown() is Letter.A
    assert story.tell(1, every_s=2, **deeper).shown() is Letter.B
    assert story.known.held["generic"].since_us == began_us


def test_a_path_that_nobody_gets_through_is_shown_so_with_the_third_test() -> None:
    nothing = {"rung": Rung.NONE, "sent": 0, "received": 0, "rtt_n": 0, "rtt_p50_us": None}
    story = Story().tell(12).tell(2, every_s=5, **nothing)
    assert story.shown() is Letter.F
    assert story.known.reading.rtt_p50_us == 30_000
    assert story.tell(1, every_s=5, **nothing).shown() is Letter.UNREACHABLE
    assert story.known.reading.rung is Rung.NONE
    assert story.tell(1, **FULL).known.reading.rung is Rung.NONE
    assert story.tell(1, **FULL).shown() is Letter.F
    assert story.known.reading.rung is Rung.SRFLX


def test_a_test_that_broke_off_says_nothing() -> None:
    story = Story().tell(12)
    before = story.known.held
    assert story.tell(3, error="the peer went away").known.held == before
    assert story.tell(2, error="the peer went away").watch.told(story.at_us) == {}  # as the store has it


def test_loss_is_called_in_its_direction_only() -> None:
    story = Story().tell(3)
    for n in range(4):
        story.number += 1
        story.at_us += 2 * S_US
        there, back = both(story.number, sent=80, received=80, rtt_n=80)
        story.watch.take(msgspec.structs.replace(there, received=77), RULES, story.at_us)
        story.watch.take(back, RULES, story.at_us)
        assert (story.known.loss.since_us is None) == (n < 1)
    assert story.watch.told(story.at_us)["radiologist", "pacs"].loss.since_us is None


def test_another_path_begins_afresh() -> None:
    for changes in ({"rung": Rung.RELAY_UDP}, {"route_change": RouteChange.CHANGED}):
        story = Story().tell(3, every_s=2, sent=80, received=76, rtt_n=80)
        assert story.known.loss.since_us is not None
        story.tell(1, **FULL, **changes)
        assert story.known.loss.since_us is None
        assert len(story.known.samples) == 1


def test_what_is_old_or_too_light_is_not_told() -> None:
    story = Story()
    assert story.watch.told(story.at_us + 119 * S_US)
    assert story.watch.told(story.at_us + 121 * S_US) == {}
    only_light = PairWatch("pacs", "radiologist")
    for end in both(1):
        only_light.take(end, RULES, AT_US)
    assert only_light.told(AT_US) == {}


def row_of(story: Story) -> PathRow:
    watched = story.watch.told(story.at_us)
    readings = with_latest_tests([reading(), reading("radiologist", "pacs")], watched)
    usual = with_watched(Usual(), watched)
    rows = path_rows("generic", readings, [], MEMBERS, at_us=AT_US, rules=RULES, usual=usual)
    return next(row for row in rows if (row.src, row.dst) == WAY)


def test_a_letter_that_no_test_had_stands_with_the_numbers_of_the_last_one() -> None:
    deeper = {"sent": 80, "received": 80, "rtt_n": 80}
    grade = row_of(Story().tell(12).tell(2, every_s=15, **deeper, rtt_us=900_000)).grade
    assert (grade.letter, grade.outcome) == (Letter.D, 900_000)
    assert grade.reason.startswith("F at the last test, which has not lasted yet: 95 % of round trips are")


def test_numbers_of_an_earlier_time_never_stand_with_a_letter_of_now() -> None:
    """D was measured six minutes ago; now D holds only because F has not lasted."""
    deeper = {"sent": 80, "received": 80, "rtt_n": 80}
    story = Story().tell(2, **FULL).tell(5, **FULL, rtt_us=250_000).tell(12, **FULL)
    assert story.shown() is Letter.A
    grade = row_of(story.tell(2, every_s=15, **deeper, rtt_us=900_000)).grade
    assert (grade.letter, grade.outcome) == (Letter.D, 900_000)


def test_a_row_has_the_letter_that_holds_and_says_what_the_last_test_said() -> None:
    story = Story().tell(12).tell(1, sent=80, received=80, rtt_n=80, rtt_us=120_000)
    row = row_of(story)
    assert row.watched
    assert row.grade.letter is Letter.A
    assert row.grade.reason.startswith("C at the last test, which has not lasted yet; before it: 95 %")
    assert row.grade.outcome == 30_000
    assert row.rtt_p50_us == 120_000
    assert row.letter_since_us == AT_US + 30 * S_US


def test_light_tests_call_a_path_slower_before_its_cycles_do() -> None:
    usual = Baseline(30_000, 1_000, 500, of_hour=False)
    story = Story().tell(12).tell(7, rtt_us=60_000)
    change = story.known.slower(usual)
    assert change is not None
    assert change.since_us == story.at_us - 6 * 30 * S_US
    assert Story().tell(40).known.slower(usual) is None
    calm = Usual({WAY: Known(History(usual, None, ()))})
    assert with_watched(calm, {WAY: story.known}).paths[WAY].history.change == change


def test_light_tests_are_one_in_five_minutes_of_what_is_usual(tmp_path: Path) -> None:
    with_full = [(0, 300), (30, 20), (60, 20)]
    alone = [(300, 20), (330, 20), (360, 20)]
    rows = [
        reading(
            test=f"t{second}",
            cycle=CYCLE + second,
            rtt_n=n,
            started_us=second * S_US,
            ended_us=(CYCLE // 300 * 300 + 300 + second) * S_US,
        )
        for second, n in with_full + alone
    ]
    late_us = (CYCLE + 3_000) * S_US
    store = Store.open(tmp_path, clock_us=lambda: late_us)
    try:
        put(store, body("pacs", 1, readings=rows))
        kept = [one.at_us // S_US % 3_600 for one in store.past("default", since_us=0)]
    finally:
        store.close()
    begin = (CYCLE // 300 * 300 + 300) % 3_600
    assert kept == [begin, begin + 300]


def test_a_profile_that_light_tests_cannot_grade_keeps_its_letter_for_half_an_hour() -> None:
    story = Story()
    before = story.shown("trading")
    assert story.tell(59).shown("trading") is before
    assert "trading" not in story.tell(6, sent=80, received=80, rtt_n=80).known.held
    nothing = {"rung": Rung.NONE, "sent": 0, "received": 0, "rtt_n": 0, "rtt_p50_us": None}
    story = Story().tell(12).tell(3, every_s=5, **nothing)
    assert story.shown("trading") is Letter.UNREACHABLE
    assert story.tell(2).shown("trading") is Letter.F


def test_a_gap_in_one_test_is_told_and_lowers_no_letter() -> None:
    story = Story().tell(12).tell(1, **{**FULL, "received": 267})
    assert story.known.reading.sent - story.known.reading.received == 33
    assert story.tell(6, every_s=10, sent=80, received=80, rtt_n=80).shown() is Letter.A
    again = Story().tell(12).tell(1, **{**FULL, "received": 267})
    assert again.tell(5, every_s=10, sent=80, received=70, rtt_n=80).shown() is Letter.D
