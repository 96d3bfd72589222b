"""However the sessions' lives fall into snapshots, drains and windows, everything is counted once."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.passive.owner import Owners
from agent.passive.sessions import FlowTable
from analytics.histogram import bucket, counts_of
from analytics.measurement import Flow
from ebpf.events import Opener, Reset, SessionEvent, TcpState
from tests.unit.passive.records import Source, closed, run, session

LASTING_NS = 500_000_000

LIVES = st.lists(
    st.lists(st.tuples(st.integers(0, 10_000), st.booleans()), min_size=1, max_size=8), min_size=1, max_size=4
)
"""For each session: bytes that come in between two snapshots, and whether a window ends there."""

CLOSES = st.lists(
    st.builds(
        closed,
        cookie=st.integers(1, 20),
        first_seen_ns=st.integers(1, 10**9),
        at_ns=st.integers(10**9, 2 * 10**9),
        opener=st.sampled_from([Opener.LOCAL, Opener.REMOTE]),
        established=st.integers(0, 1),
        pid=st.integers(1, 3),
        service_port=st.integers(1, 3),
        bytes_acked=st.integers(2, 2**40),
        bytes_received=st.integers(1, 2**40),
        bytes_retransmitted=st.integers(0, 2**40),
        data_segments_sent=st.integers(0, 2**31),
        retransmitted=st.integers(0, 2**31),
        busy_us=st.integers(0, 2**40),
        srtt_us=st.integers(0, 2**29),
        min_rtt_us=st.integers(0, 2**32 - 1),
        fin_acked=st.integers(0, 1),
        fin_received=st.integers(0, 1),
        reset=st.integers(0, 3),
        rate_delivered=st.integers(0, 20),
        rate_interval_us=st.integers(0, 2**20),
        app_limited=st.integers(0, 1),
        mss=st.just(1448),
    ),
    max_size=40,
    unique_by=lambda event: event.key,
)


def table() -> FlowTable:
    return FlowTable(agent="a", tenant="default", owners=Owners(Source(), proc=Path("/nonexistent")))


def end(flows: FlowTable) -> list[Flow]:
    return flows.flows(window_us=0, window_length_us=1)


def told(number: int, received: int, state: TcpState) -> SessionEvent:
    return session(cookie=number, opener=Opener.REMOTE, state=state, bytes_received=received)


@given(LIVES)
def test_bytes_are_counted_once(lives: list[list[tuple[int, bool]]]) -> None:
    flows = table()
    rows = []
    for number, life in enumerate(lives):
        received = 0
        for more, window_ends in life:
            received += more
            flows.take_open([told(number, received, TcpState.ESTABLISHED)])
            if window_ends:
                rows += end(flows)
        flows.take_closed(run(told(number, received, TcpState.CLOSE)))
    rows += end(flows)

    assert sum(row.bytes_received for row in rows) == sum(more for life in lives for more, _ in life)
    assert sum(row.opened for row in rows) == sum(row.closed for row in rows) == len(lives)


def expected(events: list[SessionEvent]) -> dict[str, object]:
    """The sums, as the record's own properties have them, one session after the other."""
    whole = [event for event in events if event.established]
    measured = [event for event in whole if event.srtt_us]
    lasting = [event for event in measured if event.at_ns - event.first_seen_ns >= LASTING_NS]
    rates = [
        event.delivery_bytes_per_s or 0
        for event in whole
        if event.rate_delivered >= 10 and event.rate_interval_us and not event.app_limited
    ]
    return {
        "opened": len(whole),
        "failed": len(events) - len(whole),
        "bytes_sent": sum(event.payload_acked for event in whole),
        "bytes_received": sum(event.payload_received for event in whole),
        "bytes_retransmitted": sum(event.bytes_retransmitted for event in whole),
        "segments_sent": sum(event.data_segments_sent for event in whole),
        "segments_retransmitted": sum(event.retransmitted for event in whole),
        "busy_us": sum(event.busy_us for event in whole),
        "resets_sent": sum(bool(event.reset & Reset.SENT) for event in whole),
        "resets_received": sum(bool(event.reset & Reset.RECEIVED) for event in whole),
        "rtt_min_us": min((event.min_rtt_us for event in whole), default=2**32 - 1),
        "delivery_kbps": max((rate * 8 // 1000 for rate in rates), default=-1),
        "srtts": sorted(bucket(event.srtt_us) for event in measured),
        "lasting": sorted(bucket(event.srtt_us) for event in lasting),
    }


def summed(rows: list[Flow]) -> dict[str, object]:
    plain = (
        "opened failed bytes_sent bytes_received bytes_retransmitted segments_sent segments_retransmitted "
        "busy_us resets_sent resets_received"
    )
    sums: dict[str, object] = {name: sum(getattr(row, name) for row in rows) for name in plain.split()}
    return sums | {
        "rtt_min_us": min((row.rtt_min_us for row in rows if row.rtt_min_us is not None), default=2**32 - 1),
        "delivery_kbps": max(
            (row.delivery_kbps for row in rows if row.delivery_kbps is not None), default=-1
        ),
        "srtts": sorted(counts_of(row.srtt_histogram for row in rows).elements()),
        "lasting": sorted(counts_of(row.srtt_lasting_histogram for row in rows).elements()),
    }


@given(CLOSES, st.data())
def test_sums_over_many_are_the_sums_of_each(events: list[SessionEvent], data: st.DataObject) -> None:
    flows = table()
    rows = []
    left = events
    while left:
        count = data.draw(st.integers(1, len(left)))
        flows.take_closed(run(*left[:count]))
        left = left[count:]
        if data.draw(st.booleans()):
            rows += end(flows)
    assert summed(rows + end(flows)) == expected(events)


@given(CLOSES, st.data())
def test_a_snapshot_in_between_changes_no_sum(events: list[SessionEvent], data: st.DataObject) -> None:
    """Some sessions are told halfway; among thousands or alone, their second half is all that is added."""
    flows = table()
    halfway = [event for event in events if event.established and data.draw(st.booleans())]
    flows.take_open(
        event._replace(
            state=TcpState.ESTABLISHED,
            bytes_acked=event.bytes_acked // 2,
            bytes_received=event.bytes_received // 2,
            bytes_retransmitted=event.bytes_retransmitted // 2,
            data_segments_sent=event.data_segments_sent // 2,
            fin_acked=0,
            fin_received=0,
            reset=0,
        )
        for event in halfway
    )
    rows = end(flows)
    flows.take_closed(run(*events))
    got, right = summed(rows + end(flows)), expected(events)
    for name in ("bytes_received", "bytes_retransmitted", "segments_sent", "opened", "resets_sent", "failed"):
        assert got[name] == right[name], name
