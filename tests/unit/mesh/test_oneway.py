from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.mesh.oneway import Above, OneWay, above_least, one_way
from agent.mesh.probe import RoundTrip, percentile

MS = 1_000_000
EPOCH = 10**18


def trips(
    delays: list[tuple[int, int]], *, offset_ns: int = 0, drift: float = 0.0, interval_ns: int = 25 * MS
) -> list[RoundTrip]:
    """Round trips of (forth, back) ns; the peer's clock is ahead by the offset, and gains by the drift."""

    def peer(at_ns: int) -> int:
        return EPOCH + at_ns + offset_ns + round(drift * at_ns)

    made = []
    for n, (forth, back) in enumerate(delays):
        sent = n * interval_ns
        arrived, left = sent + forth, sent + forth + 100_000
        t1, t2, t3, t4 = EPOCH + sent, peer(arrived), peer(left), EPOCH + left + back
        trip = RoundTrip(t1, 0, t1, t2, t3, t3, t4, kernel_received=True)
        made.append(trip)
    return made


def test_clocks_that_are_claimed_to_be_close_give_the_delay_with_its_bound() -> None:
    told = one_way(trips([(9 * MS, 3 * MS)] * 40, offset_ns=200_000), [300, 200])
    assert told == OneWay(9_200, 9_200, 501)  # 9.0 ms is within 501 us of it


def test_the_round_trips_bound_what_the_claims_do_not() -> None:
    told = one_way(trips([(9 * MS, 100_000)] * 40), [2_000, 2_000])
    # peer minus own clock is at least -0.1 ms, because nothing comes back before it was sent
    assert told is not None
    assert told.bound_us < 2_100
    assert abs(told.min_us - 9_000) <= told.bound_us


@pytest.mark.parametrize("claims", [[None, 100], [100, None], [None, None], [10_000, 10_000]])
def test_without_close_clocks_nothing_is_said(claims: list[int | None]) -> None:
    assert one_way(trips([(9 * MS, 9 * MS)] * 40), claims) is None


def test_stamps_that_contradict_the_claims_say_nothing() -> None:
    assert one_way(trips([(9 * MS, 9 * MS)] * 40, offset_ns=30 * MS), [100, 100]) is None
    assert one_way([], [100, 100]) is None


@settings(deadline=None)  # the host may be busy
@given(
    st.lists(st.tuples(st.integers(1_000, 50 * MS), st.integers(1_000, 50 * MS)), min_size=1, max_size=60),
    st.integers(-20_000, 20_000),
    st.floats(-5e-4, 5e-4),
    st.integers(0, 30_000),
)
def test_the_truth_is_within_the_bound(
    delays: list[tuple[int, int]], offset_us: int, drift: float, slack_us: int
) -> None:
    """Any offset and drift; the claims hold, and are split between the two ends."""
    moved_us = abs(drift) * 25_000 * (len(delays) + 4)
    claim_us = abs(offset_us) + round(moved_us) + 1 + slack_us
    made = trips(delays, offset_ns=offset_us * 1000, drift=drift)
    told = one_way(made, [claim_us // 3, claim_us - claim_us // 3])
    if told is not None:
        forth = sorted(forward for forward, _ in delays)
        assert abs(told.min_us - forth[0] / 1000) <= told.bound_us
        assert abs(told.p50_us - percentile(forth, 50) / 1000) <= told.bound_us
        assert told.bound_us < told.min_us


@settings(deadline=None)  # the host may be busy
@given(st.integers(-(10**15), 10**15), st.floats(-9e-4, 9e-4), st.integers(0, 2**32))
def test_delay_above_the_least_needs_no_common_clock(offset_ns: int, drift: float, seed: int) -> None:
    dice = random.Random(seed)
    queued = [0 if n % 10 == 0 else dice.randrange(8 * MS) for n in range(200)]
    made = trips([(5 * MS + queue, 5 * MS) for queue in queued], offset_ns=offset_ns, drift=drift)
    told = above_least(made)
    assert told is not None
    ordered = sorted(queued)
    assert told.p50_us == pytest.approx(percentile(ordered, 50) / 1000, abs=12)
    assert told.p95_us == pytest.approx(percentile(ordered, 95) / 1000, abs=12)


def test_only_the_direction_that_queues_shows_it() -> None:
    queued = [(5 * MS + n % 7 * MS, 5 * MS) for n in range(100)]
    back = [(back, forth) for forth, back in queued]
    assert above_least(trips(queued)) == Above(3_000, 6_000)
    assert above_least(trips(back)) == Above(0, 0)


def test_few_samples_or_a_clock_that_runs_away_say_nothing() -> None:
    assert above_least(trips([(5 * MS, 5 * MS)] * 19)) is None
    assert above_least(trips([(5 * MS, 5 * MS)] * 40, drift=5e-3)) is None
