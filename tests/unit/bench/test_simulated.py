"""The benches that simulate: the same seed gives the same, and small runs say what large ones do."""

from __future__ import annotations

import random

from benches import detect, legs


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
