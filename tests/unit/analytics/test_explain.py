"""The derivation of a letter: every profile, every way to withhold one, and what became slower."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from analytics.explain import Explanation, explain
from analytics.fused import Fused, Number, Origin
from analytics.kinds.table import kind_of
from analytics.measurement import CapacityTrust, Hop, Letter, Reading, Rung
from analytics.moments import moment_us
from analytics.report import build_report
from analytics.rules.load import load_rules
from analytics.usual import NOTHING_KNOWN, Usual, calm_of, usual_hops_of, usual_of, with_watched
from server.pages.explained import sections
from tests.unit.analytics.facts import AT_US, CYCLE, MEMBERS, reading
from tests.unit.analytics.test_usual import DAY, past, usual_hops
from tests.unit.analytics.test_verdict import SLOW, SLOW_HOPS

RULES = load_rules()


def explained(
    *readings: Reading, profile: str = "pacs", hops: list[Hop] | None = None, usual: Usual = NOTHING_KNOWN
) -> Explanation:
    hops = hops or []
    made = build_report(
        tenant="default",
        profile=profile,
        readings=readings,
        hops=hops,
        members=MEMBERS,
        at_us=AT_US,
        rules=RULES,
        usual=usual,
    )
    told = explain("pacs", "radiologist", report=made, readings=readings, hops=hops, usual=usual, rules=RULES)
    assert told is not None
    return told


def both(**changes: Any) -> list[Reading]:
    there = reading(**changes)
    return [there, msgspec.structs.replace(there, src=there.dst, dst=there.src)]


def words(told: Explanation) -> dict[str, dict[str, str]]:
    return {
        section.title: {what: known.replace("\N{NO-BREAK SPACE}", " ") for what, known in section.lines}
        for section in sections(told)
    }


@pytest.mark.parametrize(
    ("profile", "inputs"),
    [
        ("pacs", ["median round trip", "loss there", "capacity there"]),
        ("ehr", ["round trip, 95th percentile", "median round trip", "loss there", "loss back"]),
        (
            "video",
            [
                "median round trip",
                "round trip, 95th percentile",
                "loss, the worse direction",
                "capacity, the lesser direction",
            ],
        ),
        ("vdi", ["round trip, 95th percentile", "loss, the worse direction"]),
        ("trading", ["round trip, 99th percentile", "loss, the worse direction"]),
        ("generic", ["round trip, 95th percentile", "loss, the worse direction"]),
    ],
)
def test_every_profile_tells_its_inputs_and_the_letter_of_each_corner(
    profile: str, inputs: list[str]
) -> None:
    told = explained(*both(rtt_us=20_000, rtt_p99_us=24_000), profile=profile)
    assert [one.name for one in told.inputs] == inputs
    assert all(one.enough for one in told.inputs)
    assert all(one.told_by in ("pacs", "radiologist") for one in told.inputs)
    assert [corner.name for corner in told.corners] == ["best", "expected", "worst"]
    letters = [corner.letter for corner in told.corners if corner.letter is not None]
    assert letters == sorted(letters)
    assert len(set(letters)) == 1 or told.confidence == "low"
    if kind_of(RULES.profile(profile)).outcome_is_all:  # else loss alone may leave a letter in doubt
        assert (told.confidence == "high") is (len(set(letters)) == 1)
    assert told.thresholds
    assert told.grade.rule == RULES.profile(profile).rule


def test_a_letter_that_loss_might_change_is_not_told_as_sure() -> None:
    """The round trip is sure; three lost of 300 may be a loss of 0.4 or of 2.3 %."""
    lossy = explained(*both(rtt_us=20_000, sent=300, received=297), profile="generic")
    assert {corner.letter for corner in lossy.corners} == {Letter.A}
    assert (lossy.grade.letter, lossy.confidence) == (Letter.A, "low")
    assert explained(*both(rtt_us=20_000), profile="generic").confidence == "high"


def test_too_few_samples_are_told_as_that() -> None:
    told = explained(*both(rtt_n=5))
    assert (told.grade.letter, told.confidence) == (Letter.UNKNOWN, "withheld")
    (rtt, *_) = told.inputs
    assert (rtt.value, rtt.n, rtt.needed, rtt.enough) == (30_000, 5, 10, False)
    assert words(told)["What it measured"]["median round trip"] == (
        "30 ms, of 5 samples, 10 needed: too few, told by pacs"
    )


def test_what_was_not_measured_is_said_as_that() -> None:
    told = explained(
        reading(capacity_kbps=None, capacity_trust=CapacityTrust.NONE, capacity_why="budget", sent=0)
    )
    said = words(told)["What it measured"]
    assert (said["capacity there"], said["loss there"]) == ("budget", "not told")
    assert words(told)["The test that counts"]["other end"] == "has not told of this test"


def test_a_path_that_cannot_connect_rests_on_no_number() -> None:
    told = explained(reading(rung=Rung.NONE, rungs_failed="lan: other network; srflx: no answer", rtt_n=0))
    assert (told.inputs, told.grade.rule, told.confidence) == ([], "any.unreachable.v1", "high")
    said = words(told)
    assert said["The test that counts"]["not server reflexive"] == "no answer"
    assert "What it measured" not in said
    assert said["Which leg added it"] == {"none named": "nothing is usual yet"}


def test_a_path_that_became_slower_tells_what_is_usual_and_who_added_it() -> None:
    there = usual_hops(
        "pacs", "radiologist", ("10.20.0.1", 300), ("198.51.100.1", 4_300), ("198.51.100.9", 9_000)
    )
    back = usual_hops("radiologist", "pacs", ("192.168.7.1", 1_600), ("203.0.113.1", 3_400))
    before = [reading(rtt_us=49_000, cycle=CYCLE - 300 * n, test=f"t{n}") for n in range(1, 13)]
    usual = Usual(
        usual_of(past(2 * DAY, 260_000, 260_000, 260_000)),
        usual_hops_of([*there, *back]),
        calm=calm_of(before),
    )
    told = explained(*both(**SLOW), hops=SLOW_HOPS, usual=usual)
    assert told.detector.state == "slower"
    assert told.baseline.n == 567  # told anew each hour
    assert told.baseline.outcome == 9_743
    assert told.added is not None
    assert told.added_why == ""
    said = words(told)
    assert said["What is usual"]["median"] == "49.0 ms round trip, of 567 tests"
    assert said["What is usual"]["outcome"] == "9.7 s before it became slower"
    assert said["Whether it became slower"]["slower"] == "yes, since 2026-11-23 19:45:00 UTC"
    assert said["Which leg added it"] == {"hotel access": "210 ms of 211 ms more than usual"}
    assert said["The hops behind it"]["radiologist 2"] == (
        "203.0.113.1 least 214 ms, usually 3.4 ms, 6 of 6 answered"
    )


def test_what_is_usual_stays_known_of_paths_that_are_watched() -> None:
    usual = Usual(usual_of(past(2 * DAY, 49_000)), calm=calm_of([reading()]))
    assert with_watched(usual, {}).calm == usual.calm


def test_what_sessions_said_is_a_step_of_its_own() -> None:
    told = explained(*both(rtt_us=49_000))
    number = Number(name="round trip", value=51_000, unit="us", origin=Origin.PASSIVE, n=40)
    fused = Fused(services=["PACS"], active=told.grade, numbers=[number], until_us=AT_US, rule="fusion.v1")
    said = sections(msgspec.structs.replace(told, fused=fused, letter_since_us=1))
    (sessions,) = (one for one in said if one.title == "What the sessions said")
    assert sessions.rule == "fusion.v1"
    assert "round trip 51 ms (by sessions, n 40)" in sessions.lines[0][1]
    (letter,) = (one for one in said if one.title == "The letter")
    assert letter.lines[-1][0] == "held"


def test_a_path_that_is_as_usual_says_so() -> None:
    told = explained(*both(rtt_us=49_000), usual=Usual(usual_of(past(2 * DAY, 49_000))))
    said = words(told)
    assert said["Whether it became slower"]["slower"] == "no"
    assert said["Whether it became slower"]["sum"] == "0 of 12 (CUSUM)"
    assert said["Which leg added it"] == {"none named": "the path is no slower than usual"}
    assert told.baseline.outcome is None


def test_a_path_without_a_reading_has_no_explanation() -> None:
    made = build_report(
        tenant="default",
        profile="pacs",
        readings=[],
        hops=[],
        members=MEMBERS,
        at_us=AT_US,
        rules=RULES,
    )
    nothing = {"report": made, "readings": [], "hops": [], "usual": NOTHING_KNOWN, "rules": RULES}
    assert explain("pacs", "radiologist", **nothing) is None  # type: ignore[arg-type]


NOON_US = AT_US - 8 * 3_600_000_000
DAY_US = 86_400_000_000


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2h", NOON_US - 7_200_000_000),
        ("7d", NOON_US - 7 * DAY_US),
        ("09:45", NOON_US - 135 * 60_000_000),
        ("12:00", NOON_US),
        ("12:01", NOON_US + 60_000_000 - DAY_US),
        ("2026-11-23T12:00Z", NOON_US),
        ("2026-11-23 13:00+01:00", NOON_US),
        ("2026-11-23", NOON_US - DAY_US // 2),
        ("25:00", None),
        ("yesterday", None),
        ("", None),
        ("9999999h", None),
    ],
)
def test_moments_as_people_write_them(text: str, us: int | None) -> None:
    assert moment_us(text, NOON_US) == us
