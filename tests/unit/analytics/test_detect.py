"""Changes: called when they matter and last, dated to their beginning, and not made part of what is usual."""

from __future__ import annotations

import random
from collections.abc import Sequence

from analytics.baseline import Baseline, Sample
from analytics.detect import Change, History, history, material_us

STEP_US = 300_000_000


def known(_samples: Sequence[Sample], _at_us: int) -> Baseline:
    """Usual are 40 ms, give or take 1."""
    return Baseline(40_000, 1_000, 500, of_hour=False)


def of(*rtts_ms: float) -> History:
    return history([Sample(n * STEP_US, round(1000 * ms)) for n, ms in enumerate(rtts_ms)], usual=known)


def test_a_step_is_a_change_since_its_first_test() -> None:
    found = of(40, 41, 39, 70, 71)
    assert found.change == Change(since_us=3 * STEP_US, usual_us=40_000, now_us=71_000)


def test_one_slow_test_is_none() -> None:
    assert of(40, 41, 400, 40, 39).change is None
    assert of(40, 400, 40, 400, 40, 400).change is None


def test_a_smaller_step_takes_three_tests() -> None:
    assert of(40, 50, 50).change is None
    assert of(40, 50, 50, 50).change == Change(STEP_US, 40_000, 50_000)


def test_what_nobody_notices_is_no_change_however_long_it_lasts() -> None:
    assert of(*[47.9] * 100).change is None
    assert material_us(40_000) == 8_000
    assert material_us(2_000) == 5_000


def test_a_change_ends_when_as_many_tests_are_as_usual() -> None:
    assert of(40, 70, 70, 40, 40).change is not None
    found = of(40, 70, 90, 40, 40, 40)
    assert found.change is None
    assert found.past == [Change(STEP_US, 40_000, 90_000, until_us=3 * STEP_US)]


def test_a_short_relief_does_not_end_it() -> None:
    found = of(40, 70, 70, 40, 70)
    assert found.change == Change(STEP_US, 40_000, 70_000)


def test_faster_than_usual_is_no_change() -> None:
    assert of(40, 20, 20, 20, 20).change is None


def test_what_was_slow_is_no_part_of_what_is_usual() -> None:
    seen: list[int] = []

    def usual(samples: Sequence[Sample], at_us: int) -> Baseline:
        seen.append(len(samples))
        assert all(sample.rtt_us < 60_000 for sample in samples)
        return known(samples, at_us)

    rtts = [40_000] * 5 + [70_000] * 50 + [40_000] * 20
    found = history([Sample(n * STEP_US, rtt) for n, rtt in enumerate(rtts)], usual=usual)
    assert found.change is None
    assert len(found.past) == 1
    assert max(seen) < 26


def test_without_a_baseline_nothing_is_called() -> None:
    found = history([Sample(n * STEP_US, 40_000 if n < 10 else 400_000) for n in range(20)])
    assert (found.usual, found.change, found.past) == (None, None, [])


def test_noise_with_heavy_tails_raises_no_alarm_in_a_thousand_tests() -> None:
    draw = random.Random(3)
    rtts = [40 + draw.gauss(0, 1) / max(0.3, abs(draw.gauss(0, 1))) for _ in range(1_000)]
    found = of(*rtts)
    assert found.change is None
    assert found.past == []
