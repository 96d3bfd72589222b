"""Grades and predictions over all inputs: worse never counts as better."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import assume, example, given
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


# --- one input at a time, of either end ---------------------------------------------------------------------

SLOWER = ("rtt_p50_us", "rtt_p95_us", "rtt_p99_us")
"""What a kind may look at, with the percentiles around it that make its interval."""


def slower(reading: Reading, name: str, by_us: int) -> Reading:
    """One percentile, and all above it, later: they stay in order."""
    order = [f"rtt_{part}_us" for part in ("min", "p25", "p50", "p75", "p90", "p95", "p99")]
    later = order[order.index(name) :]
    return msgspec.structs.replace(reading, **{one: getattr(reading, one) + by_us for one in later})


def letters(before: tuple[Reading, Reading], after: tuple[Reading, Reading], profile: str) -> None:
    """Neither is raised where both are given."""
    graded_before, graded_after = (grade(*ends, profile, RULES, AT_US) for ends in (before, after))
    assume(Letter.UNKNOWN not in (graded_before.letter, graded_after.letter))
    assert rank(graded_after.letter) >= rank(graded_before.letter)


def pair(reading: Reading, **changes: Any) -> tuple[Reading, Reading]:
    return reading, msgspec.structs.replace(reading, src=reading.dst, dst=reading.src, **changes)


@given(
    profile=PROFILES,
    rtts=PERCENTILES,
    name=st.sampled_from(SLOWER),
    by_us=st.integers(0, 500_000),
    lost=st.integers(0, 20),
    trust=st.sampled_from(CapacityTrust),
    kbps=RATES,
)
def test_a_later_percentile_alone_never_raises_a_letter(
    *, profile: str, rtts: list[int], name: str, by_us: int, lost: int, trust: CapacityTrust, kbps: int
) -> None:
    before = pair(made(rtts, lost, 300, kbps, trust))
    after = slower(before[0], name, by_us), slower(before[1], name, by_us)
    letters(before, after, profile)


@given(
    profile=PROFILES,
    rtts=PERCENTILES,
    lost=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    more=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    kbps=RATES,
)
def test_more_loss_of_either_direction_never_raises_a_letter(
    *, profile: str, rtts: list[int], lost: tuple[int, int], more: tuple[int, int], kbps: int
) -> None:
    base = made(rtts, 0, 300, kbps, CapacityTrust.MEASURED)

    def ends(there: int, back: int) -> tuple[Reading, Reading]:
        one, other = pair(base, received=max(0, 300 - back))
        return msgspec.structs.replace(one, received=max(0, 300 - there)), other

    letters(ends(*lost), ends(lost[0] + more[0], lost[1] + more[1]), profile)


@given(
    profile=PROFILES,
    rtts=PERCENTILES,
    rates=st.tuples(worse(RATES), worse(RATES)),
    lost=st.integers(0, 5),
    trust=st.sampled_from([CapacityTrust.MEASURED, CapacityTrust.AT_LEAST]),
)
def test_less_capacity_of_either_direction_never_raises_a_letter(
    *,
    profile: str,
    rtts: list[int],
    rates: tuple[tuple[int, int], tuple[int, int]],
    lost: int,
    trust: CapacityTrust,
) -> None:
    there, back = rates
    base = made(rtts, lost, 300, there[1], trust)
    before = pair(base, capacity_kbps=back[1])
    after = pair(msgspec.structs.replace(base, capacity_kbps=there[0]), capacity_kbps=back[0])
    letters(before, after, profile)


@given(profile=PROFILES, rtts=PERCENTILES, spread=worse(st.integers(0, 400_000)), lost=st.integers(0, 5))
def test_more_jitter_never_raises_a_letter(
    *, profile: str, rtts: list[int], spread: tuple[int, int], lost: int
) -> None:
    """The median stays where it is; what is above it moves away."""
    base = made(rtts, lost, 300, 100_000, CapacityTrust.MEASURED)
    tail = ("rtt_p75_us", "rtt_p90_us", "rtt_p95_us", "rtt_p99_us")

    def ends(by_us: int) -> tuple[Reading, Reading]:
        later = {name: getattr(base, name) + by_us * (at + 1) for at, name in enumerate(tail)}
        return pair(msgspec.structs.replace(base, **later))

    letters(ends(spread[0]), ends(spread[1]), profile)


@given(profile=PROFILES, rtts=PERCENTILES, age_s=worse(st.integers(12, 4_000)))
def test_age_only_takes_a_letter_away(*, profile: str, rtts: list[int], age_s: tuple[int, int]) -> None:
    reading, back = pair(made(rtts, 0, 300, 100_000, CapacityTrust.MEASURED))
    young, old = (grade(reading, back, profile, RULES, AT_US + age * 1_000_000) for age in age_s)
    assert old.letter in (young.letter, Letter.UNKNOWN)


@given(
    profile=PROFILES,
    rtts=PERCENTILES,
    lost=st.integers(0, 1_000),
    sent=st.integers(0, 1_000),
    kbps=RATES,
    trust=st.sampled_from(CapacityTrust),
    rtt_n=st.integers(0, 400),
)
@example(  # a 90th percentile near the median, a 95th far away: the low ends' difference is not the least
    profile="video",
    rtts=[0, 0, 0, 1, 1, 76_907, 76_907],
    lost=1,
    sent=1,
    kbps=100_000,
    trust=CapacityTrust.MEASURED,
    rtt_n=59,
)
@example(  # a median that is known by less than its tail is
    profile="video",
    rtts=[0, 0, 400_000, 400_000, 400_000, 400_000, 400_000],
    lost=0,
    sent=300,
    kbps=100_000,
    trust=CapacityTrust.MEASURED,
    rtt_n=300,
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
