"""Fusion over all sessions: order and repetition change nothing, worse is never better, paths never mix."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from analytics.addresses import book_of
from analytics.fusion import Passive, differs, judge, passive_of
from analytics.grade import grade
from analytics.histogram import bucket
from analytics.letters import rank
from analytics.measurement import CapacityTrust, Direction, Flow, Letter, Reading, Rung
from analytics.rules.load import load_rules
from analytics.shapes import Member, Service

RULES = load_rules()
AT_US = 1_795_464_000_000_000
WINDOW_US = 10_000_000
PROFILES = st.sampled_from(list(RULES.profiles))
RTTS = st.integers(100, 400_000)
MEMBERS = [
    Member(name="a", site="s", addresses=["10.0.0.1"]),
    Member(name="b", site="s", addresses=["10.0.0.2"]),
]
BOOK = book_of(MEMBERS, [])
PERCENTILES = ("rtt_min_us", *(f"rtt_p{part}_us" for part in (10, 25, 50, 75, 90, 95, 99)))


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    rtts = sorted(draw(st.lists(RTTS, min_size=8, max_size=8)))
    lost = draw(st.integers(0, 300) | st.integers(0, 10))
    return Reading(
        tenant="default",
        cycle=AT_US // 1_000_000 - 60,
        test="t",
        src="a",
        dst="b",
        started_us=AT_US - 30_000_000,
        ended_us=AT_US - 12_000_000,
        rung=Rung.LAN,
        sent=300,
        received=300 - lost,
        rtt_n=300,
        capacity_kbps=draw(st.integers(100, 1_000_000)),
        capacity_trust=draw(st.sampled_from([CapacityTrust.MEASURED, CapacityTrust.AT_LEAST])),
        **dict(zip(PERCENTILES, rtts, strict=True)),
    )


@st.composite
def flows(draw: st.DrawFn, *, direction: str = "a", least_us: st.SearchStrategy[int] = RTTS) -> Flow:
    segments = draw(st.integers(0, 5_000))
    rtt_us = draw(least_us)
    srtt_us = rtt_us + draw(st.integers(0, 50_000))
    counts = draw(
        st.dictionaries(st.integers(rtt_us, 2 * rtt_us + 1_000).map(bucket), st.integers(1, 80), max_size=4)
    )
    here, there = ("a", "10.0.0.2") if direction == "a" else ("b", "10.0.0.1")
    return Flow(
        tenant="default",
        agent=here,
        window_us=AT_US - draw(st.integers(1, 29)) * WINDOW_US,
        window_length_us=WINDOW_US,
        direction=Direction.IN if direction == "a" else Direction.OUT,
        remote_address=there,
        service_port=4242,
        segments_sent=segments,
        segments_retransmitted=draw(st.integers(0, segments)),
        dsack_duplicates=draw(st.integers(0, 20)),
        busy_us=draw(st.integers(0, WINDOW_US)),
        rtt_min_us=rtt_us,
        srtt_us=srtt_us,
        srtt_lasting_histogram=tuple(part for pair in sorted(counts.items()) for part in pair),
        delivery_kbps=draw(st.none() | st.integers(100, 1_000_000)),
        congestion=draw(st.sampled_from(["", "cubic", "bbr", "reno"])),
    )


BOTH_WAYS = st.lists(flows(direction="a") | flows(direction="b"), max_size=6)


def passive(seen: list[Flow], profile: str) -> Passive:
    service = Service(name="S", profile=profile, agent="a", port=4242)
    return passive_of(seen, BOOK, [service], rules=RULES, at_us=AT_US)


def judged(reading: Reading, seen: list[Flow], profile: str) -> Any:
    back = msgspec.structs.replace(reading, src="b", dst="a")
    return judge(reading, back, profile, RULES, at_us=AT_US, passive=passive(seen, profile))


def lettered(*letters: Letter) -> bool:
    return Letter.UNKNOWN not in letters


@given(reading=readings(), seen=BOTH_WAYS, profile=PROFILES, data=st.data())
def test_order_and_repetition_of_sessions_change_nothing(
    reading: Reading, seen: list[Flow], profile: str, data: st.DataObject
) -> None:
    again = data.draw(st.permutations(seen + seen[:2]))
    assert judged(reading, seen, profile) == judged(reading, again, profile)


@given(reading=readings(), profile=PROFILES)
def test_without_sessions_the_probes_speak_alone(reading: Reading, profile: str) -> None:
    back = msgspec.structs.replace(reading, src="b", dst="a")
    assert judged(reading, [], profile) == (grade(reading, back, profile, RULES, AT_US), None)


@given(
    reading=readings(),
    seen=st.lists(flows(), min_size=1, max_size=4),
    profile=PROFILES,
    more=st.integers(1, 500),
)
def test_more_segments_lost_never_make_a_letter_better(
    reading: Reading, seen: list[Flow], profile: str, more: int
) -> None:
    worse = [
        msgspec.structs.replace(
            one, segments_retransmitted=min(one.segments_sent, one.segments_retransmitted + more)
        )
        for one in seen
    ]
    before, after = judged(reading, seen, profile)[0].letter, judged(reading, worse, profile)[0].letter
    assert not lettered(before, after) or rank(after) >= rank(before)


@given(reading=readings(), seen=BOTH_WAYS)
def test_a_letter_lies_between_the_best_and_the_worst_of_what_both_saw(
    reading: Reading, seen: list[Flow]
) -> None:
    made, fused = judged(reading, seen, "generic")
    assume(fused is not None and not fused.apart)
    there = passive(seen, "generic").sent
    own, other = there.get(("a", "b")), there.get(("b", "a"))
    told = own if own is not None and own.rtt_min_us is not None else other
    losses = [1 - reading.received / 300, *(one.loss.share for one in (own, other) if one)]
    p95s = [reading.rtt_p95_us, told.rtt_us(0.95) if told else None]
    known = [p95 for p95 in p95s if p95 is not None]
    limits = RULES.profiles["generic"]
    best, worst = (_letter(limits, of(known), of(losses)) for of in (min, max))
    if lettered(made.letter):
        assert best <= rank(made.letter) <= worst


def _letter(profile: Any, rtt_us: float, share: float) -> int:
    beyond = [
        sum(rtt_us > most for most in profile.most_rtt_p95_us),
        sum(10_000 * share > most for most in profile.most_loss_bp),
    ]
    return max(beyond)


@given(
    one=readings(),
    other=readings(),
    seen=st.lists(flows(least_us=st.integers(700_000, 900_000)), min_size=1, max_size=4),
    profile=PROFILES,
)
def test_on_another_path_the_probes_have_no_say(
    one: Reading, other: Reading, seen: list[Flow], profile: str
) -> None:
    (made, fused), (same, _) = judged(one, seen, profile), judged(other, seen, profile)
    assume(fused is not None and bool(fused.apart))
    assert (made.letter, made.outcome) == (same.letter, same.outcome)


@given(probed=RTTS, used=RTTS)
def test_a_difference_is_one_of_more_than_5_ms_and_a_fifth(probed: int, used: int) -> None:
    apart = abs(probed - used)
    assert differs(probed, used, RULES.fusion) == (apart > 5_000 and 5 * apart > probed)
