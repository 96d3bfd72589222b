"""A path over time: columns that fit a chart, with gaps, letters, what is usual, and changes."""

from __future__ import annotations

from typing import Any

from analytics.clock import DAY_US, HOUR_US
from analytics.measurement import Letter, Reading, RouteChange, Rung
from analytics.rollup import Level, merge, of_reading
from analytics.rules.load import load_rules
from analytics.timeline import MOST_COLUMNS, Timeline, span_of, timeline, timeline_of_rollups
from analytics.usual import Past
from tests.unit.analytics.facts import AT_US, reading

RULES = load_rules()
STEP_US = 300_000_000


def ended_at(at_us: int, src: str = "pacs", dst: str = "radiologist", **changes: Any) -> Reading:
    told: dict[str, Any] = {
        "cycle": at_us // 1_000_000 - 60,
        "started_us": at_us - 9_000_000,
        "ended_us": at_us,
    }
    return reading(src, dst, **(told | {"test": f"t{at_us}"} | changes))


def made(readings: list[Reading], past: list[Past] | None = None, hours: int = 2) -> Timeline:
    span = span_of(AT_US - hours * HOUR_US, AT_US, STEP_US)
    return timeline(
        "pacs", "radiologist", profile="pacs", span=span, readings=readings, past=past or [], rules=RULES
    )


def test_a_gap_is_a_column_without_a_value() -> None:
    told = made([ended_at(AT_US - HOUR_US + 1), ended_at(AT_US - STEP_US + 1)])
    assert len(told.columns.at_us) == 24
    assert [n for n, tests in enumerate(told.columns.tests) if tests] == [12, 23]
    assert told.columns.rtt_p50_us[12:14] == [30_000, None]
    assert told.columns.letter[12:14] == [Letter.B, None]
    assert told.columns.usual_us == [None] * 24


def test_several_tests_in_a_column_are_one_and_the_worst_letter_is_told() -> None:
    at_us = AT_US - STEP_US
    slow = ended_at(at_us + 60_000_000, rtt_us=400_000, received=270)
    light = ended_at(at_us + 90_000_000, rtt_us=1_000, rtt_n=20, rung=Rung.RELAY_UDP)
    told = made([ended_at(at_us), slow, light]).columns
    assert (told.tests[-1], told.rtt_min_us[-1], told.rtt_p50_us[-1]) == (3, 1_000, 215_000)
    assert (told.rtt_p95_us[-1], told.loss_bp[-1], told.rung[-1]) == (400_000, 333, Rung.RELAY_UDP)
    assert told.letter[-1] is Letter.F


def test_loss_back_is_of_the_other_end() -> None:
    at_us = AT_US - 60_000_000
    back = ended_at(at_us, "radiologist", "pacs", received=240, test=f"t{at_us}")
    told = made([ended_at(at_us), back]).columns
    assert (told.tests[-1], told.loss_bp[-1], told.loss_back_bp[-1]) == (1, 0, 2000)


def past(rtt_us: int, count: int, until_us: int, rung: Rung = Rung.SRFLX) -> list[Past]:
    return [
        Past(
            src="pacs",
            dst="radiologist",
            at_us=until_us - (count - n) * STEP_US,
            rung=rung,
            rtt_min_us=rtt_us,
            rtt_p50_us=rtt_us,
        )
        for n in range(count)
    ]


def test_the_band_is_what_was_usual_then_and_a_change_is_told_with_its_end() -> None:
    slow_us, calm_us = AT_US - HOUR_US, AT_US - HOUR_US // 2
    before = [*past(40_000, 600, slow_us), *past(90_000, 6, calm_us), *past(40_000, 6, AT_US)]
    told = made([], before)
    assert (told.columns.usual_low_us[0], told.columns.usual_us[0], told.columns.usual_high_us[0]) == (
        39_000,
        40_000,
        41_000,
    )
    (slower,) = told.slower
    assert (slower.since_us, slower.until_us, slower.worst_us) == (slow_us, calm_us, 90_000)
    (on,) = made([], before[:-6]).slower
    assert (on.since_us, on.until_us) == (slow_us, None)


def test_another_rung_is_another_path() -> None:
    changed_us = AT_US - HOUR_US
    before = [*past(40_000, 600, changed_us), *past(90_000, 12, AT_US, Rung.RELAY_UDP)]
    told = made([], before)
    assert told.slower == []
    assert told.columns.usual_us[0] == 40_000
    assert told.columns.usual_us[-1] is None


def test_routes_and_rungs_are_told_since_when_until_when() -> None:
    at = [AT_US - n * STEP_US for n in (5, 4, 3, 2, 1)]
    told = made(
        [
            ended_at(at[0], route_id="r1", route_change=RouteChange.FIRST),
            ended_at(at[1], route_id="r1", route_change=RouteChange.SAME),
            ended_at(at[2], rung=Rung.NONE, rungs_failed="srflx: no answer"),
            ended_at(at[3], route_id="r2", route_change=RouteChange.CHANGED),
            ended_at(at[4], route_id="r1", route_change=RouteChange.BALANCED),
        ]
    )
    assert [(one.since_us, one.until_us, one.route_id, one.change.value) for one in told.routes] == [
        (at[0], at[1], "r1", "first"),
        (at[3], at[3], "r2", "changed"),
        (at[4], at[4], "r1", "balanced"),
    ]
    assert [(one.since_us, one.tests, one.rung.value) for one in told.rungs] == [
        (at[0], 2, "srflx"),
        (at[2], 1, "none"),
        (at[3], 2, "srflx"),
    ]


def test_a_column_is_never_too_narrow_for_the_chart() -> None:
    for length_us in (1, 60_000_000, HOUR_US, 36 * HOUR_US, 30 * DAY_US, 400 * DAY_US, 2**52):
        for step_us in (None, 1, DAY_US):
            span = span_of(AT_US - 7, AT_US - 7 + length_us, step_us)
            assert 1 <= len(span.starts) <= MOST_COLUMNS
            assert span.since_us % span.step_us == 0
            assert span.since_us <= AT_US - 7


def test_rollups_tell_the_same_round_trips_without_letters() -> None:
    tests = [ended_at(AT_US - n * STEP_US, rtt_us=30_000 + n) for n in range(1, 25)]
    back = [ended_at(one.ended_us, "radiologist", "pacs", received=270) for one in tests]
    hours = merge((of_reading(one, AT_US, Level.FIVE_MINUTES) for one in [*tests, *back]), Level.HOUR)
    span = span_of(AT_US - 2 * HOUR_US, AT_US, HOUR_US)
    told = timeline_of_rollups(
        "pacs", "radiologist", profile="pacs", span=span, made_of="readings_1h", rollups=hours, rules=RULES
    )
    assert told.columns.tests == [12, 12]
    assert told.columns.rtt_min_us == [30_013, 30_001]
    assert [abs((us or 0) - 30_010) < 300 for us in told.columns.rtt_p50_us] == [True, True]
    assert (told.columns.loss_bp, told.columns.loss_back_bp) == ([0, 0], [1_000, 1_000])
    assert told.columns.letter == [None, None]
