"""The benches that simulate: the same seed gives the same, and small runs say what large ones do."""

from __future__ import annotations

import random

from benches import detect, legs, tomography


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


def test_the_shared_cause_is_named_and_a_naive_rule_names_too_many() -> None:
    found = tomography.named(tomography.ours, trials=7, seed=5)
    assert found["precision"] == found["recall"] == 1.0
    naive = tomography.named(tomography.naive, trials=7, seed=5)
    assert float(str(naive["precision"])) < 0.5
    took_s, bad, right = tomography.seconds(tomography.ours, tomography.Kind.REGION, 60)
    assert right
    assert bad > 400
    assert took_s < 30
