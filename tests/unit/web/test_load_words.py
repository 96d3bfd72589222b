"""Load, queues and losses in words: only of what was measured."""

from __future__ import annotations

from analytics.measurement import Reading
from server.pages.load_words import load_notes
from tests.unit.analytics.facts import reading


def told(**changes: object) -> list[str]:
    return load_notes(reading(**changes))


def test_what_was_not_measured_is_not_said() -> None:
    assert told() == []
    assert load_notes(reading(rtt_p50_us=None, rtt_loaded_p50_us=9_000)) == []


def test_the_rise_under_load_has_its_letter_and_the_line_its_classes() -> None:
    assert told(rtt_us=8_000, rtt_loaded_p50_us=20_000, ipdv_us=300) == [
        "Under load the round trip rises by 12 ms (bufferbloat A).",
        "As a line (AIM): calls great, gaming great.",
    ]
    assert told(rtt_loaded_p50_us=450_000)[0] == "Under load the round trip rises by 420 ms (bufferbloat F)."


def test_without_a_jitter_there_is_no_class_for_calls() -> None:
    found = told(rtt_loaded_p50_us=31_000)
    assert found[1] == "As a line (AIM): gaming great."


def test_queues_bursts_one_way_and_what_keeps_capacity_back() -> None:
    one: Reading = reading(
        queueing_p95_us=3_100,
        loss_longest=4,
        one_way_min_us=14_000,
        one_way_bound_us=900,
        capacity_why="packets arrived in bunches",
    )
    assert load_notes(one) == [
        "Of the packets to radiologist, 95 % waited less than 3.1 ms in queues.",
        "Packets are lost in a row, up to 4 at once.",
        "One way to radiologist takes 14 ms at least, give or take 0.90 ms.",
        "Capacity: packets arrived in bunches.",
    ]


def test_a_single_loss_is_no_burst() -> None:
    assert told(loss_longest=1, received=299) == []
