"""The benches that simulate: the same seed gives the same, and small runs say what large ones do."""

from __future__ import annotations

import random

import pytest
from benches import alarms, detect, legs, tomography, watch_sim

from analytics.baseline import Baseline


def test_the_leg_that_became_slower_is_named() -> None:
    found = legs.run(paths=40, seed=3)
    assert found.paths == found.calm == 40
    assert found.right_leg >= 38
    assert found.named_for_nothing == 0
    assert legs.run(paths=40, seed=3) == found


def test_a_large_step_is_called_at_once_and_a_small_one_never() -> None:
    draw = random.Random(1)
    assert max(detect.delays(draw, 2, 25)) <= 3
    assert min(detect.delays(draw, 2, 3)) == detect.NEVER


def test_noise_is_around_its_base() -> None:
    values = detect.noise_us(random.Random(1), 200, 0)
    assert abs(sorted(values)[100] - detect.BASE_US) < 2_000


def test_a_bound_is_that_of_a_poisson_count() -> None:
    assert detect.bound(0, 120) == pytest.approx(2.996 / 120, rel=1e-3)
    assert detect.bound(3, 1) == pytest.approx(7.754, rel=1e-3)
    assert detect.bound(9_000, 125) == pytest.approx(9_157 / 125, rel=1e-3)


def test_a_watched_path_that_became_far_slower_shows_another_letter_within_a_minute() -> None:
    found = detect.stories(random.Random(3), "large", 2)
    assert all(one.left is not None and one.left <= 60 for one in found)
    assert all(one.lossy is None for one in found)


def test_the_simulated_pair_is_tested_at_the_pace_of_the_product() -> None:
    tests = list(watch_sim.tests(random.Random(4), watch_sim.NO_FAULT, 3_600))
    assert {test.probes for test in tests} <= {20, 80, 300}
    light = sum(test.probes == 20 for test in tests)
    assert 100 <= light <= 121
    assert 12 <= sum(test.probes == 300 for test in tests) <= 14


def test_the_textbooks_charts_call_a_step_and_not_a_calm_path() -> None:
    usual = Baseline(40_000, 1_000, 500, of_hour=False)
    for chart in alarms.CHARTS.values():
        assert alarms.calls(chart(usual), [40_000] * 100) == 0
        assert alarms.calls(chart(usual), [70_000] * 10) > 0


def test_the_shared_cause_is_named_and_a_naive_rule_names_too_many() -> None:
    found = tomography.named(tomography.ours, trials=7, seed=5)
    assert found["precision"] == found["recall"] == 1.0
    naive = tomography.named(tomography.naive, trials=7, seed=5)
    assert float(str(naive["precision"])) < 0.5
    took_s, bad, right = tomography.seconds(tomography.ours, tomography.Kind.REGION, 60)
    assert right
    assert bad > 400
    assert took_s < 30
