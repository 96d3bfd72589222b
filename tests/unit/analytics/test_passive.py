"""Letters from what applications' own sessions saw."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from analytics.clock import HOUR_US
from analytics.histogram import bucket
from analytics.measurement import Letter
from analytics.passive import HOURS, MOST_GROUPS, applications, grade, since_us
from analytics.rules.load import load_rules
from analytics.usage import By, Usage, merged
from tests.unit.analytics.facts import AT_US

RULES = load_rules()


def usage(rtt_us: int = 30_000, n: int = 40, **changes: Any) -> Usage:
    base = Usage(
        agent="pacs",
        process="Orthanc",
        hour_us=since_us(AT_US) + (HOURS - 1) * HOUR_US,
        opened=n,
        closed=n,
        segments_sent=4_000,
        srtt_lasting_histogram=(bucket(rtt_us), n) if n else (),
    )
    return msgspec.structs.replace(base, **changes)


@pytest.mark.parametrize(
    ("seen", "letter"),
    [
        (usage(), "A"),
        (usage(80_000), "B"),
        (usage(120_000), "C"),
        (usage(200_000), "D"),
        (usage(400_000), "F"),
        (usage(segments_retransmitted=30), "A"),
        (usage(segments_retransmitted=60), "B"),
        (usage(segments_retransmitted=120), "C"),
        (usage(segments_retransmitted=300), "D"),
        (usage(segments_retransmitted=600), "F"),
        (usage(120_000, segments_retransmitted=300), "D"),
        (usage(200_000, segments_retransmitted=60), "D"),
    ],
)
def test_the_worse_of_round_trip_and_segments_sent_again(seen: Usage, letter: str) -> None:
    given = grade(seen, RULES)
    assert given.letter == letter, given.reason
    assert (given.rule, given.rules_version) == ("applications.sessions.v1", RULES.version)


def test_a_grade_says_what_it_is_made_of() -> None:
    given = grade(usage(segments_retransmitted=60), RULES)
    assert given.reason == "median round trip 30 ms, 60 of 4,000 segments sent again (1.5 %)"
    assert given.unit == "us"
    assert given.outcome is not None
    assert abs(given.outcome - 30_000) <= 1_000
    assert given.outcome_low is not None
    assert given.outcome_high is not None
    assert given.outcome_low <= 30_000 <= given.outcome_high


def test_what_the_peer_had_already_was_not_lost() -> None:
    assert grade(usage(segments_retransmitted=300, dsack_duplicates=280), RULES).letter is Letter.A
    assert grade(usage(segments_retransmitted=3, dsack_duplicates=280), RULES).letter is Letter.A


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (usage(n=9), "9 round trips of sessions that lasted 0.5 s; 10 needed"),
        (usage(n=0, opened=500), "no round trips of sessions that lasted 0.5 s; 10 needed"),
        (
            usage(segments_sent=20),
            "too few samples for a letter: median round trip 30 ms, none of 20 segments sent again",
        ),
        (usage(segments_sent=0), "too few samples for a letter: median round trip 30 ms, no segment sent"),
        (
            usage(srtt_lasting_histogram=(bucket(10_000), 5, bucket(200_000), 6)),
            "too few samples for a letter: median round trip 201 ms, none of 4,000 segments sent again",
        ),
        (usage(n=0, segments_sent=0), "no session"),
    ],
)
def test_a_letter_is_withheld_with_the_reason(seen: Usage, reason: str) -> None:
    given = grade(seen, RULES)
    assert (given.letter, given.reason) == (Letter.UNKNOWN, reason)


@pytest.mark.parametrize(
    ("seen", "letter", "reason"),
    [
        (
            usage(n=0, segments_retransmitted=600),
            "F",
            "600 of 4,000 segments sent again (15 %); no round",
        ),
        (usage(400_000, segments_sent=5), "F", "median round trip 401 ms, none of 5 segments sent again"),
    ],
)
def test_what_is_unusable_already_needs_no_second_input(seen: Usage, letter: str, reason: str) -> None:
    given = grade(seen, RULES)
    assert given.letter == letter
    assert given.reason.startswith(reason)


def test_attempts_that_all_fail_are_said_as_cannot_connect() -> None:
    seen = usage(n=0, segments_sent=0, failed=12)
    assert grade(seen, RULES).letter is Letter.UNREACHABLE
    assert grade(seen, RULES).reason == "cannot connect: 12 attempts failed, none succeeded"
    assert grade(usage(failed=12), RULES).letter is Letter.A


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rwnd_limited_us": 41}, "68 % of the sending time waited for the peer's receive window"),
        ({"sndbuf_limited_us": 30, "rwnd_limited_us": 20}, "50 % of the sending time waited for this host's"),
        ({"rwnd_limited_us": 29}, ""),
        ({}, ""),
    ],
)
def test_what_is_not_the_network_is_named(changes: dict[str, int], says: str) -> None:
    in_seconds = {name: seconds * 1_000_000 for name, seconds in changes.items()}
    seen = usage(busy_us=60_000_000, **in_seconds)
    (row,) = applications([seen], by=By.PROCESS, at_us=AT_US, rules=RULES).rows
    assert row.held_up.startswith(says) if says else not row.held_up


def test_a_blink_of_sending_says_nothing_of_who_held_it_up() -> None:
    seen = usage(busy_us=999_999, rwnd_limited_us=999_999)
    (row,) = applications([seen], by=By.PROCESS, at_us=AT_US, rules=RULES).rows
    assert (row.held_up, row.rwnd_limited_percent, row.sndbuf_limited_percent) == ("", 100, 0)


def test_each_of_24_hours_has_its_letter_the_running_one_last() -> None:
    first = since_us(AT_US)
    assert first % HOUR_US == 0
    assert first + (HOURS - 1) * HOUR_US <= AT_US < first + HOURS * HOUR_US
    seen = [
        usage(hour_us=first),
        usage(400_000, hour_us=first + 2 * HOUR_US),
        usage(n=0, segments_sent=0, failed=3, hour_us=first + 3 * HOUR_US),
        usage(n=1, hour_us=first + 23 * HOUR_US),
    ]
    (row,) = applications(seen, by=By.PROCESS, at_us=AT_US, rules=RULES).rows
    told = "".join(letter.value if letter else "." for letter in row.hours)
    assert told == "A.FX" + 19 * "." + "?"
    assert row.grade.outcome == grade(merged(seen), RULES).outcome


def test_rows_come_worst_first_and_no_more_than_asked_for() -> None:
    seen = [
        usage(process="a"),
        usage(process="b", n=2),
        usage(400_000, process="c"),
        usage(500_000, process="d"),
        usage(process="e", n=0, segments_sent=0, failed=3),
        usage(process="a", agent="home"),
    ]

    def told(limit: int) -> list[tuple[str, str]]:
        made = applications(seen, by=By.PROCESS, at_us=AT_US, rules=RULES, limit=limit)
        assert made.is_cut == (limit < 6)
        return [(row.agent, row.process) for row in made.rows]

    order = [("pacs", "e"), ("pacs", "d"), ("pacs", "c"), ("home", "a"), ("pacs", "a"), ("pacs", "b")]
    assert told(6) == order
    assert told(2) == order[:2]


def test_as_many_groups_as_are_looked_at_are_said_to_be_cut() -> None:
    seen = [usage(process=f"p{number}") for number in range(MOST_GROUPS)]
    assert applications(seen, by=By.PROCESS, at_us=AT_US, rules=RULES).is_cut
