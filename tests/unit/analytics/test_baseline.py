"""What is usual: said once enough is known, by the hour of the week where that is known."""

from __future__ import annotations

import random

from analytics.baseline import LEAST_SPREAD_US, WEEK_US, Baseline, Sample, baseline
from analytics.clock import HOUR_US

MONDAY_US = 3000 * WEEK_US
STEP_US = 300_000_000


def steady(count: int, rtt_us: int = 40_000, *, start_us: int = MONDAY_US) -> list[Sample]:
    return [Sample(start_us + n * STEP_US, rtt_us) for n in range(count)]


def test_nothing_is_usual_before_a_day_is_over() -> None:
    samples = steady(287)
    assert baseline(samples, samples[-1].at_us + 1) is None
    samples = steady(290)
    assert baseline(samples, samples[-1].at_us + 1) == Baseline(40_000, LEAST_SPREAD_US, 290, of_hour=False)


def test_few_samples_say_nothing_however_long_they_took() -> None:
    samples = [Sample(MONDAY_US + n * HOUR_US, 40_000) for n in range(29)]
    assert baseline(samples, MONDAY_US + 48 * HOUR_US) is None


def test_what_is_older_than_two_weeks_or_later_than_the_moment_does_not_count() -> None:
    old, now = steady(400, 90_000), steady(400, start_us=MONDAY_US + 3 * WEEK_US)
    found = baseline([*old, *now], now[-1].at_us)
    assert found is not None
    assert (found.rtt_us, found.n) == (40_000, 399)


def test_the_hour_of_the_week_has_its_own() -> None:
    samples = [
        Sample(at_us, 60_000 if at_us % WEEK_US // HOUR_US == 9 else 40_000)
        for week in range(2)
        for at_us in range(MONDAY_US + week * WEEK_US, MONDAY_US + (week + 1) * WEEK_US, STEP_US)
    ]
    at_nine = baseline(samples, MONDAY_US + 2 * WEEK_US + 9 * HOUR_US)
    at_ten = baseline(samples, MONDAY_US + 2 * WEEK_US + 10 * HOUR_US)
    assert at_nine is not None
    assert at_ten is not None
    assert (at_nine.rtt_us, at_nine.of_hour) == (60_000, True)
    assert at_ten.rtt_us == 40_000


def test_a_tenth_of_wild_values_changes_little() -> None:
    random_us = random.Random(1)
    samples = [
        Sample(at_us, 400_000 if n % 10 == 0 else round(random_us.gauss(40_000, 1_000)))
        for n, (at_us, _) in enumerate(steady(600))
    ]
    found = baseline(samples, samples[-1].at_us + 1)
    assert found is not None
    assert abs(found.rtt_us - 40_000) < 300
    assert 900 < found.spread_us < 1_300
