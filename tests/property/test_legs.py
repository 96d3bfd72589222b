"""Legs over all traces: they sum to the round trip, whatever the routers said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analytics.legs import legs
from analytics.measurement import Hop, LegKind, Reading, Rung

ADDRESSES = st.sampled_from(
    ["", "10.0.0.1", "192.168.1.1", "100.64.0.1", "203.0.113.1", "2001:db8::1", "nonsense"]
)
US = st.one_of(st.none(), st.integers(0, 3_600_000_000))


@st.composite
def traces(draw: st.DrawFn) -> list[Hop]:
    told = draw(st.lists(st.tuples(ADDRESSES, US), max_size=8))
    ends = draw(st.booleans())
    hops = [
        Hop(
            tenant="t",
            cycle=1,
            test="t",
            src="a",
            dst="b",
            ttl=ttl,
            address=address,
            is_end=int(ends and ttl == len(told)),
            rtt_min_us=rtt_us,
        )
        for ttl, (address, rtt_us) in enumerate(told, start=1)
    ]
    return draw(st.permutations(hops))


@given(traces(), traces(), US, st.sampled_from(Rung))
def test_legs_sum_exactly_and_stand_in_order(
    src: list[Hop], dst: list[Hop], rtt_us: int | None, rung: Rung
) -> None:
    reading = Reading(
        tenant="t",
        cycle=1,
        test="t",
        src="a",
        dst="b",
        started_us=1,
        ended_us=2,
        rung=rung,
        rtt_min_us=rtt_us,
    )
    found = legs(reading, src, dst, src_site="x", dst_site="y")
    kinds = [leg.kind for leg in found]
    assert kinds == sorted(kinds, key=list(LegKind).index)
    assert len(set(kinds)) == len(kinds)
    assert all(leg.rtt_us >= 0 for leg in found)
    assert all(leg.rtt_us == 0 for leg in found if not leg.measured)
    if found:
        assert rtt_us is not None
        assert abs(sum(leg.rtt_us for leg in found) - rtt_us) <= 1  # asked for within 1 us; they are exact
        assert sum(leg.rtt_us for leg in found) == rtt_us
