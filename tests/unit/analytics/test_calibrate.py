"""What a PACS takes for an image, from requests and from fetches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.calibrate import (
    LEAST_FETCHES,
    LEAST_REQUESTS,
    Calibration,
    ObservedFetch,
    from_fetches,
    from_requests,
    study_with,
)
from analytics.rules.load import Study, StudyProfile, load_rules


def ct() -> Study:
    profile = load_rules().profile("pacs")
    assert isinstance(profile, StudyProfile)
    return profile.study


def test_requests_tell_what_is_over_the_round_trip() -> None:
    waited = [21_000 + 100 * n for n in range(-5, 6)]
    assert from_requests(waited, 20_000) == Calibration(1_000, 11, low=724, high=1_276)


def test_one_slow_request_in_ten_changes_nothing() -> None:
    usual = [21_000] * 10
    assert from_requests([*usual, 9_000_000], 20_000) == Calibration(1_000, 11, 1_000, 1_000)


def test_too_few_requests_or_fetches_say_nothing() -> None:
    fetch = ObservedFetch(predicted_us=1, took_us=1, images=1, server_us_per_image=1)
    assert from_requests([21_000] * (LEAST_REQUESTS - 1), 20_000) is None
    assert from_fetches([fetch] * (LEAST_FETCHES - 1)) is None


def test_a_fetch_tells_what_would_have_made_its_prediction_right() -> None:
    late = ObservedFetch(predicted_us=2_000_000, took_us=2_300_000, images=100, server_us_per_image=1_000)
    found = from_fetches([late] * LEAST_FETCHES)
    assert found == Calibration(4_000, LEAST_FETCHES, 4_000, 4_000)
    assert study_with(ct(), found).server_us_per_image == 4_000


def test_a_study_without_a_calibration_is_as_it_was() -> None:
    study = ct()
    assert study_with(study, None) is study


@given(st.lists(st.integers(0, 10**7), min_size=LEAST_REQUESTS), st.integers(0, 10**6))
def test_the_middle_is_inside_its_interval_and_a_study_takes_it(waited: list[int], rtt_us: int) -> None:
    found = from_requests(waited, rtt_us)
    assert found is not None
    assert 1 <= found.low <= found.server_us_per_image <= found.high
    assert study_with(ct(), found).server_us_per_image == found.server_us_per_image


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_requests_does_not_matter(order: int) -> None:
    waited = [20_000 + 37 * n % 1_000 for n in range(50)]
    assert from_requests(waited[::order], 20_000) == from_requests(waited, 20_000)
