"""Letters: given where the samples support them, withheld with a reason where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from analytics.errors import RulesError
from analytics.evidence import LossCount
from analytics.grade import FAILED, STALE, UNREACHABLE, grade, measured_at_us
from analytics.measurement import CapacityTrust, Grade, Reading, Rung
from analytics.rules.load import load_rules
from tests.unit.analytics.facts import AT_US, CYCLE, reading

RULES = load_rules()


def pacs(**changes: Any) -> Grade:
    return grade(reading(**changes), None, "pacs", RULES, AT_US)


BACK = reading("radiologist", "pacs", rtt_n=0)


def generic(back: Reading | None = BACK, **changes: Any) -> Grade:
    return grade(reading(**changes), back, "generic", RULES, AT_US)


# --- pacs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rtt_us", "kbps", "letter"),
    [
        (1_000, 500_000, "A"),
        (30_000, 100_000, "B"),
        (60_000, 50_000, "C"),
        (260_000, 25_000, "D"),
        (260_000, 10_000, "F"),
        (700_000, 500_000, "F"),
    ],
)
def test_letters_of_clean_paths(rtt_us: int, kbps: int, letter: str) -> None:
    found = pacs(rtt_us=rtt_us, capacity_kbps=kbps)
    assert found.letter == letter
    assert found.outcome_low is not None
    assert found.outcome is not None
    assert found.outcome_high is not None
    assert found.outcome_low < found.outcome < found.outcome_high
    assert (found.unit, found.rule, found.rules_version) == ("ms", "pacs.open.v1", RULES.version)


def test_the_reason_names_what_went_in() -> None:
    assert pacs(rtt_us=260_000, capacity_kbps=25_000).reason == (
        "a 50 MB CT takes about 46 s (260 ms round trip, 25 Mbit/s, none of 300 packets lost; "
        "C-GET, first image after 2.4 s)"
    )


def test_a_loss_on_a_long_path_depends_on_a_tcp_we_do_not_know() -> None:
    found = pacs(rtt_us=40_000, received=299)
    assert (found.letter, found.outcome) == ("?", None)
    assert found.reason == (
        "between 6.9 s and 4 min, depending on the sender's TCP: "
        "40 ms round trip, 100 Mbit/s, 1 of 300 packets lost; C-GET, first image after 390 ms"
    )


def test_a_loss_on_a_short_path_changes_nothing() -> None:
    assert pacs(rtt_us=1_000, received=299).letter == "A"


def test_a_lower_bound_is_one_whatever_was_lost_and_whoever_sends() -> None:
    """One of 60 lost may be 0.4 %, and BBR would not slow down for it: nobody may be told F for that."""
    lost = {"rtt_us": 100_000, "sent": 60, "received": 59, "rtt_n": 60}
    known = grade(reading(**lost, capacity_kbps=10**6), BACK, "pacs", RULES, AT_US)
    nothing = {"capacity_kbps": None, "capacity_trust": CapacityTrust.NONE}
    found = grade(reading(**lost, **nothing), BACK, "pacs", RULES, AT_US)
    assert (known.letter, found.letter) == ("?", "?")
    assert found.outcome_low is not None
    assert known.outcome_low is not None
    assert found.outcome_low <= known.outcome_low


def test_a_capacity_of_at_least_gives_an_upper_bound() -> None:
    found = pacs(capacity_trust=CapacityTrust.AT_LEAST)
    assert found.letter == "B"
    assert found.outcome == found.outcome_high
    assert found.reason.startswith("a 50 MB CT takes about 7.7 s at most (")
    found = pacs(capacity_trust=CapacityTrust.AT_LEAST, capacity_kbps=12_000)
    assert (found.letter, found.reason) == ("?", "the capacity is known only as at least 12 Mbit/s")
    # 13 s to 42 s: C is as possible as D, so nobody is told that they cannot work.
    assert pacs(rtt_us=120_000, capacity_trust=CapacityTrust.AT_LEAST, capacity_kbps=20_000).letter == "?"
    found = pacs(capacity_trust=CapacityTrust.AT_LEAST, capacity_kbps=12_000)
    assert found.outcome_low is not None
    assert found.outcome_high is not None
    assert found.outcome_low < 5_000
    assert found.outcome_high > 30_000


def test_without_a_capacity_only_the_round_trips_can_speak() -> None:
    missing = {"capacity_kbps": None, "capacity_trust": CapacityTrust.NONE}
    found = pacs(rtt_us=30_000, **missing)
    assert (found.letter, found.reason) == ("?", "the capacity could not be measured")
    found = pacs(rtt_us=400_000, **missing)
    assert (found.letter, found.outcome, found.outcome_high) == ("D", None, None)
    assert found.reason == "a 50 MB CT takes about 38 s at least; the capacity could not be measured"


def test_too_few_samples_withhold_the_letter() -> None:
    assert pacs(rtt_n=9).reason == "only 9 round trips measured; 10 needed"
    assert pacs(sent=120, received=120).reason == "only 120 probes; 300 needed to exclude loss"
    assert pacs(sent=120, received=120).letter == "?"
    assert pacs(sent=120, received=120, rtt_us=700_000).letter == "F"


def test_the_other_ends_round_trips_stand_in_for_too_few() -> None:
    back = reading("radiologist", "pacs")
    assert grade(reading(rtt_n=3), back, "pacs", RULES, AT_US).letter == "B"


# --- any profile --------------------------------------------------------------------------------------------


def test_unreachable_is_x_and_says_why() -> None:
    found = pacs(rung=Rung.NONE, rungs_failed="lan: other network; srflx: no answer", rtt_n=0)
    assert (found.letter, found.rule) == ("X", UNREACHABLE)
    assert found.reason == "cannot connect: lan: other network; srflx: no answer"


def test_a_test_that_broke_off_before_the_last_rung_is_not_unreachable() -> None:
    found = pacs(rung=Rung.NONE, error="the peer sent nothing for lan within 10 s", rtt_n=0)
    assert (found.letter, found.rule) == ("?", FAILED)


def test_a_test_that_broke_off_says_nothing() -> None:
    found = pacs(error="the peer fell silent")
    assert (found.letter, found.rule, found.reason) == (
        "?",
        FAILED,
        "the test broke off: the peer fell silent",
    )


def test_an_old_reading_says_nothing_about_now() -> None:
    found = grade(reading(), None, "pacs", RULES, AT_US + 1_800_000_000)
    assert (found.letter, found.rule, found.reason) == ("?", STALE, "last measured 30 min ago")
    assert grade(reading(), None, "pacs", RULES, AT_US + 880_000_000).letter == "B"


def test_the_servers_cycle_stands_in_for_a_wrong_clock() -> None:
    assert measured_at_us(reading(), AT_US) == AT_US - 12_000_000
    took = {"started_us": 1_000_000, "ended_us": 19_000_000}
    assert measured_at_us(reading(**took), AT_US) == CYCLE * 1_000_000 + 18_000_000
    tomorrow = {"started_us": AT_US + 10**11, "ended_us": AT_US + 10**11 + 18_000_000}
    assert measured_at_us(reading(**tomorrow), AT_US) == CYCLE * 1_000_000 + 18_000_000


def test_an_unknown_profile_is_one_clear_error() -> None:
    with pytest.raises(RulesError, match="no profile is called 'karaoke'") as caught:
        grade(reading(), None, "karaoke", RULES, AT_US)
    assert caught.value.remedy == "one of: pacs, ehr, video, vdi, trading, generic"


# --- generic ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rtt_us", "received", "letter"),
    [
        (20_000, 300, "A"),
        (80_000, 300, "B"),
        (140_000, 300, "C"),
        (260_000, 300, "D"),
        (320_000, 300, "F"),
        (20_000, 294, "B"),
        (20_000, 285, "C"),
    ],
)
def test_the_worse_of_round_trip_and_loss_decides(rtt_us: int, received: int, letter: str) -> None:
    assert generic(rtt_us=rtt_us, received=received).letter == letter


def test_loss_on_the_way_back_counts_too() -> None:
    found = generic(reading("radiologist", "pacs", received=285))
    assert (found.letter, found.reason) == (
        "C",
        "95 % of round trips are under 30 ms, 15 of 300 packets lost",
    )


def test_without_the_way_back_only_what_is_bad_already_can_be_said() -> None:
    for back in (None, reading("radiologist", "pacs", sent=0, received=0)):
        found = generic(back, rtt_us=20_000)
        assert (found.letter, found.reason) == ("?", "what is lost on the way back is not known")
        assert generic(back, rtt_us=400_000).letter == "F"


def test_a_95th_percentile_needs_59_samples() -> None:
    assert generic(rtt_n=58).reason == "only 58 round trips measured; 59 needed"
    found = generic(sent=20, received=19, rtt_n=60)
    assert found.letter == "?"
    assert found.reason.startswith("too few samples for a letter: ")


# --- evidence -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "sent", "low", "high"),
    [
        (0, 300, 0.0, 0.00894),
        (1, 300, 0.00074, 0.01480),
        (15, 300, 0.03300, 0.07505),
        (300, 300, 0.99106, 1.0),
    ],
)
def test_wilson_interval_at_90_percent(lost: int, sent: int, low: float, high: float) -> None:
    told = LossCount(lost, sent).interval()
    assert (told.low, told.high) == pytest.approx((low, high), abs=2e-4)


# --- ehr, video, vdi, trading -------------------------------------------------------------------------------


def graded(profile: str, back: Reading | None = BACK, **changes: Any) -> Grade:
    both = None if back is None else reading("radiologist", "pacs", **changes)
    return grade(reading(**changes), both, profile, RULES, AT_US)


@pytest.mark.parametrize(
    ("profile", "rtt_us", "received", "letter"),
    [
        ("ehr", 80_000, 300, "A"),
        ("ehr", 140_000, 300, "B"),
        ("ehr", 280_000, 300, "D"),
        ("ehr", 30_000, 285, "C"),  # 18 % of interactions lose a packet: 200 ms more
        ("video", 50_000, 300, "A"),
        ("video", 400_000, 300, "B"),
        ("video", 600_000, 300, "C"),
        ("video", 900_000, 300, "D"),
        ("video", 1_300_000, 300, "F"),
        ("video", 50_000, 270, "D"),  # R would be 69, but pictures break
        ("vdi", 25_000, 300, "A"),
        ("vdi", 120_000, 300, "D"),
        ("trading", 15_000, 300, "A"),
        ("trading", 60_000, 300, "C"),
        ("trading", 120_000, 300, "F"),
    ],
)
def test_letters_of_the_other_profiles(profile: str, rtt_us: int, received: int, letter: str) -> None:
    found = graded(profile, rtt_us=rtt_us, received=received)
    assert (found.letter, found.rule.split(".")[0]) == (letter, profile), found.reason


def test_a_call_over_a_thin_line_is_capped_by_its_rate() -> None:
    assert graded("video", rtt_us=30_000, capacity_kbps=2_000).letter == "B"
    assert graded("video", rtt_us=30_000, capacity_kbps=300).letter == "D"
    at_least = {"capacity_kbps": 300, "capacity_trust": CapacityTrust.AT_LEAST}
    assert graded("video", rtt_us=30_000, **at_least).letter == "A"


@pytest.mark.parametrize("profile", ["ehr", "video", "vdi", "trading"])
def test_one_way_alone_gives_no_good_letter(profile: str) -> None:
    found = graded(profile, back=None, rtt_us=10_000)
    assert (found.letter, found.reason) == ("?", "what is lost on the way back is not known")


@pytest.mark.parametrize("profile", ["ehr", "video", "vdi", "trading"])
def test_few_samples_give_no_letter(profile: str) -> None:
    found = graded(profile, rtt_us=10_000, rtt_n=20, sent=20, received=20)
    assert found.letter == "?"
    assert found.reason.startswith("only 20 round trips measured")


def test_the_reasons_say_what_it_means_for_people() -> None:
    assert graded("ehr", rtt_us=140_000).reason == (
        "95 % of answers come within 140 ms (140 ms round trip, none of 300 packets lost)"
    )
    assert graded("video", rtt_us=400_000).reason == (
        "R 78 of 93, MOS 3.9 (400 ms round trip, none of 300 packets lost)"
    )
    assert graded("trading", rtt_us=60_000).reason == (
        "QoO 50 of 100: 99 % of round trips are under 60 ms, none of 300 packets lost"
    )
