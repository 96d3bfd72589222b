"""Whether memory grows, decided from samples."""

from random import Random

import pytest
from faults.samples import Sample, growth, together
from faults.soak import Soaked, lines


def looks(hour_kb: int, *, at_0_kb: int = 100_000, noise_kb: int = 0) -> list[Sample]:
    draw = Random(7)
    return [
        Sample(10.0 * n, at_0_kb + hour_kb * n // 360 + draw.randint(-noise_kb, noise_kb)) for n in range(360)
    ]


def test_what_does_not_grow_is_within_the_target_whatever_one_sample_says() -> None:
    level = looks(0, noise_kb=3_000)
    level[-1] = Sample(level[-1].at_s, 900_000)
    found = growth(level, from_s=600)
    assert found is not None
    assert abs(found.share) < 0.01
    assert found.most_kb == 900_000


def test_a_leak_is_found_and_its_slope() -> None:
    found = growth(looks(6_000, noise_kb=1_000), from_s=600)
    assert found is not None
    assert found.share > 0.03
    assert found.slope_kb_per_h == pytest.approx(6_000, rel=0.1)


def test_the_warm_up_does_not_count_and_too_little_is_no_answer() -> None:
    warm = [Sample(at, 1) for at, _ in looks(0)[:60]] + looks(0)[60:]
    found = growth(warm, from_s=600)
    assert found is not None
    assert found.share == 0
    assert growth(looks(0)[:9], from_s=0) is None


def test_the_worst_of_the_agents_is_judged_too() -> None:
    samples = {"server": looks(0), "a001": looks(0), "a002": looks(30_000), "a003": looks(0)}
    soaked = Soaked(agents=3, minutes=60, samples=samples, tests=1, cycles=1, rows={}, said={})
    assert together([samples["a001"], samples["a003"]])[5].rss_kb == 200_000
    assert [one.split()[0] for one in soaked.missed()] == ["agents", "a002"]
    assert any("MISSED" in line for line in lines(soaked))
    nothing = soaked._replace(samples={"server": [], "a001": []})
    assert nothing.missed() == ["server: not measured", "agents: not measured"]
