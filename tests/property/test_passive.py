"""Letters of applications: worse sessions never raise one, and no order or repetition changes it."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from analytics.clock import HOUR_US
from analytics.histogram import MOST_COUNT, bucket, counts_of, pack
from analytics.letters import rank
from analytics.measurement import Letter
from analytics.passive import applications, grade, lost, median, since_us
from analytics.rules.load import load_rules
from analytics.usage import SUMS, By, Usage, merged
from tests.property.strategies import HISTOGRAMS

RULES = load_rules()
AT_US = 1_795_464_000_000_000
RTTS = st.lists(st.integers(100, 1_000_000), max_size=40)
HOURS = st.integers(0, 23).map(lambda hour: since_us(AT_US) + hour * HOUR_US)


def histogram_of(rtts_us: list[int]) -> tuple[int, ...]:
    return pack(counts_of(pack({bucket(rtt_us): 1}) for rtt_us in rtts_us))


@st.composite
def usages(draw: st.DrawFn, **fixed: Any) -> Usage:
    sums = {name: draw(st.integers(0, 2_000)) for name in SUMS}
    told = {"agent": "pacs", "process": draw(st.sampled_from("ab")), "hour_us": draw(HOURS)}
    return Usage(**(sums | told | {"srtt_lasting_histogram": draw(HISTOGRAMS)} | fixed))


@given(usages(), RTTS, st.lists(st.integers(0, 300_000), min_size=40, max_size=40), st.integers(0, 500))
def test_worse_sessions_never_raise_a_letter(
    seen: Usage, rtts_us: list[int], later_us: list[int], again: int
) -> None:
    before = msgspec.structs.replace(seen, srtt_lasting_histogram=histogram_of(rtts_us))
    later = [rtt + late for rtt, late in zip(rtts_us, later_us, strict=False)]
    after = msgspec.structs.replace(
        before,
        srtt_lasting_histogram=histogram_of(later),
        segments_retransmitted=before.segments_retransmitted + again,
    )
    letters = [grade(one, RULES).letter for one in (before, after)]
    if Letter.UNKNOWN not in letters:
        assert rank(letters[1]) >= rank(letters[0])


@given(HISTOGRAMS.filter(bool))
def test_the_median_is_within_its_interval(histogram: tuple[int, ...]) -> None:
    found = median(counts_of([histogram]))
    assert found.low <= found.value <= found.high


@given(usages())
def test_no_more_is_lost_than_was_sent(seen: Usage) -> None:
    assert 0 <= lost(seen).lost <= lost(seen).sent


@given(st.lists(usages(), max_size=8), st.randoms(use_true_random=False))
def test_no_order_changes_a_row(seen: list[Usage], random: Any) -> None:
    shuffled = random.sample(seen, len(seen))
    one, other = (applications(some, by=By.PROCESS, at_us=AT_US, rules=RULES) for some in (seen, shuffled))
    assert one == other


@given(st.lists(usages(process="a"), min_size=1, max_size=6), st.integers(0, 6))
def test_sums_know_no_brackets(seen: list[Usage], cut: int) -> None:
    halves = [merged(part) for part in (seen[:cut], seen[cut:]) if part]
    assert merged(halves) == merged(seen)


@given(st.lists(usages(process="a"), min_size=1, max_size=4))
def test_the_same_sessions_twice_give_the_same_values(seen: list[Usage]) -> None:
    once, twice = (
        applications(some, by=By.PROCESS, at_us=AT_US, rules=RULES).rows[0] for some in (seen, seen * 2)
    )
    assert twice.retransmit_bp == once.retransmit_bp
    assert once.rtt_p50_us in {None, twice.rtt_p50_us}
    assert twice.rwnd_limited_percent == once.rwnd_limited_percent


@given(usages(srtt_lasting_histogram=(bucket(50_000), MOST_COUNT)))
def test_counts_as_large_as_a_sender_may_tell_are_graded(seen: Usage) -> None:
    assert grade(seen, RULES).letter in Letter
