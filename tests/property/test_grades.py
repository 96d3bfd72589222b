"""Grades and predictions over all inputs: worse never counts as better."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from analytics.grade import grade
from analytics.kinds.table import kind_of
from analytics.letters import rank
from analytics.measurement import CapacityTrust, Grade, Letter, Reading, Rung, StampSource
from analytics.predict import PathState, Sender, study_us
from analytics.rules.load import Study, load_rules

RULES = load_rules()
AT_US = 1_795_464_000_000_000
RTTS = st.integers(0, 3_000_000)
RATES = st.integers(50, 10_000_000)
PROFILES = st.sampled_from(list(RULES.profiles))
PERCENTILES = st.lists(RTTS, min_size=7, max_size=7)
STUDIES = st.builds(
    Study,
    images=st.integers(1, 60),
    image_bytes=st.integers(1, 20_000_000),
    setup_round_trips=st.integers(1, 5),
    setup_us=st.just(20_000),
    server_us_per_image=st.just(1_000),
    connections=st.integers(1, 6),
    one_answer=st.booleans(),
    nagle=st.booleans(),
    setup_stalls=st.integers(0, 2),
)


@st.composite
def worse(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> tuple[Any, Any]:
    """Two values, the second not smaller."""
    low, high = sorted((draw(values), draw(values)))
    return low, high


@given(
    study=STUDIES,
    rtt=worse(RTTS),
    loss=worse(st.floats(0, 1)),
    rate=worse(RATES),
    sender=st.sampled_from(Sender),
)
def test_a_worse_path_never_opens_a_study_sooner(
    *, study: Study, rtt: tuple[int, int], loss: tuple[float, float], rate: tuple[int, int], sender: Sender
) -> None:
    better = PathState(rtt[0], loss[0], rate[1])
    for changed in (
        PathState(rtt[1], loss[0], rate[1]),
        PathState(rtt[0], loss[1], rate[1]),
        PathState(rtt[0], loss[0], rate[0]),
    ):
        assert study_us(study, changed, sender) >= study_us(study, better, sender)
    assert study_us(study, PathState(rtt[0], loss[0], None), sender) <= study_us(study, better, sender)


def made(
    rtts: list[int], lost: int, sent: int, kbps: int | None, trust: CapacityTrust, *, rtt_n: int = 300
) -> Reading:
    least, p25, p50, p75, p90, p95, p99 = sorted(rtts)
    return Reading(
        tenant="default",
        cycle=AT_US // 1_000_000 - 60,
        test="t",
        src="a",
        dst="b",
        started_us=AT_US - 30_000_000,
        ended_us=AT_US - 12_000_000,
        rung=Rung.SRFLX,
        sent=sent,
        received=sent - lost,
        rtt_n=rtt_n,
        rtt_min_us=least,
        rtt_p25_us=p25,
        rtt_p50_us=p50,
        rtt_p75_us=p75,
        rtt_p90_us=p90,
        rtt_p95_us=p95,
        rtt_p99_us=p99,
        capacity_kbps=None if trust is CapacityTrust.NONE else kbps,
        capacity_trust=trust,
        stamps=StampSource.KERNEL,
    )


def graded(reading: Reading, profile: str) -> Grade:
    """With a way back that is as good as the way there."""
    back = msgspec.structs.replace(reading, src=reading.dst, dst=reading.src)
    return grade(reading, back, profile, RULES, AT_US)


@given(
    profile=PROFILES,
    rtts=PERCENTILES,
    slower=st.integers(0, 500_000),
    lost=worse(st.integers(0, 300)),
    rate=worse(RATES),
    trust=st.sampled_from(CapacityTrust),
)
def test_worse_input_never_raises_a_letter(
    *,
    profile: str,
    rtts: list[int],
    slower: int,
    lost: tuple[int, int],
    rate: tuple[int, int],
    trust: CapacityTrust,
) -> None:
    before = graded(made(rtts, lost[0], 300, rate[1], trust), profile)
    after = graded(made([rtt + slower for rtt in rtts], lost[1], 300, rate[0], trust), profile)
    assume(Letter.UNKNOWN not in (before.letter, after.letter))
    assert rank(after.letter) >= rank(before.letter)
    better = kind_of(RULES.profile(profile)).higher_is_better
    # What is best at most grows less certain with a loss, so it may move either way.
    for bound in ("outcome", "outcome_low" if better else "outcome_high"):
        values = [value for found in (before, after) if (value := getattr(found, bound)) is not None]
        assert values == sorted(values, reverse=better)


@given(
    profile=PROFILES,
    rtts=PERCENTILES,
    lost=st.integers(0, 1_000),
    sent=st.integers(0, 1_000),
    kbps=RATES,
    trust=st.sampled_from(CapacityTrust),
    rtt_n=st.integers(0, 400),
)
def test_every_reading_has_a_letter_a_reason_and_an_ordered_interval(
    *, profile: str, rtts: list[int], lost: int, sent: int, kbps: int, trust: CapacityTrust, rtt_n: int
) -> None:
    assume(lost <= sent)
    found = graded(made(rtts, lost, sent, kbps, trust, rtt_n=rtt_n), profile)
    assert found.reason
    assert found.rule
    assert found.letter is Letter.UNKNOWN or found.outcome is not None or rank(found.letter) >= 3
    known = [v for v in (found.outcome_low, found.outcome, found.outcome_high) if v is not None]
    assert known == sorted(known)
