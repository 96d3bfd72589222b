"""Rollups: any way of folding gives the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analytics.histogram import FINE_BITS, bounds, bucket, middle
from analytics.measurement import Reading, Rung
from analytics.rollup import Level, Rollup, merge, of_reading
from tests.unit.analytics.facts import AT_US, reading

MOMENTS = st.integers(AT_US - 3 * 86_400_000_000, AT_US)
RTTS = st.none() | st.integers(0, 3_600_000_000)


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    rtt_us = draw(RTTS)
    return reading(
        draw(st.sampled_from(["pacs", "home"])),
        "radiologist",
        ended_us=draw(MOMENTS),
        rung=draw(st.sampled_from(list(Rung))),
        sent=draw(st.integers(0, 2**62)),
        rtt_min_us=rtt_us,
        rtt_p50_us=rtt_us,
        rtt_n=draw(st.integers(0, 40)),
        rtt_p95_us=draw(RTTS),
        one_way_min_us=draw(RTTS),
    )


def fine(rows: list[Reading]) -> list[Rollup]:
    return [of_reading(row, AT_US, Level.FIVE_MINUTES) for row in rows]


@given(st.lists(readings(), max_size=30), st.randoms(use_true_random=False), st.integers(1, 5))
def test_folding_knows_no_order_and_no_grouping(rows: list[Reading], chance: object, parts: int) -> None:
    shuffled = fine(rows)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis's Random
    in_parts = [one for n in range(parts) for one in merge(shuffled[n::parts], Level.FIVE_MINUTES)]
    for level in Level:
        assert merge(in_parts, level) == merge(fine(rows), level)


@given(st.lists(readings(), max_size=30))
def test_a_coarser_rollup_is_the_fold_of_the_finer(rows: list[Reading]) -> None:
    hours = merge(fine(rows), Level.HOUR)
    assert merge(hours, Level.DAY) == merge(fine(rows), Level.DAY)
    assert hours == merge((of_reading(row, AT_US, Level.HOUR) for row in rows), Level.HOUR)
    assert merge(hours, Level.HOUR) == hours
    assert sum(one.tests for one in hours) == len(rows)


@given(st.integers(0, 2**62))
def test_fine_buckets_are_right_to_one_percent(value: int) -> None:
    number = bucket(value, FINE_BITS)
    least, most = bounds(number, FINE_BITS)
    assert least <= value <= most
    assert abs(middle(number, FINE_BITS) - value) <= value / 100
    assert bucket(most + 1, FINE_BITS) == number + 1
