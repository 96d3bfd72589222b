"""From sessions to flows: each byte in one window, once."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.passive import accounts, sessions
from agent.passive.columns import RUN_PIECE
from agent.passive.owner import Owners
from agent.passive.sessions import ORPHAN_WINDOWS, FlowTable
from analytics.batch import check_batch, pack_batch
from analytics.histogram import bucket, counts_of
from analytics.measurement import Direction, Flow
from ebpf.events import NOT_MEASURED_U32, Opener, OwnerFacts, Reset, SessionEvent, TcpState
from tests.unit.passive.records import CLIENT, SERVER, Source, closed, listening, packed, run, served, session

NO_PROC = Path("/nonexistent")
HALF_A_SECOND_ON = 501_000_000
"""When a session that began at 1 ms has lasted 0.5 s."""


def table(source: Source | None = None) -> FlowTable:
    return FlowTable(agent="pacs", tenant="default", owners=Owners(source or Source(), proc=NO_PROC))


def close(flows: FlowTable, *events: SessionEvent) -> None:
    flows.take_closed(run(*events))


def window(flows: FlowTable) -> list[Flow]:
    return flows.flows(window_us=0, window_length_us=10_000_000)


def only(rows: list[Flow]) -> Flow:
    (row,) = rows
    return row


def test_a_short_session_is_one_row() -> None:
    source = Source()
    source.facts[4121, 5_000_000_000] = OwnerFacts(
        uid=1000, executable="/usr/bin/getscu", cgroup="reading.service"
    )
    flows = table(source)
    told = closed(
        bytes_acked=102,
        fin_acked=1,
        bytes_received=501,
        fin_received=1,
        bytes_retransmitted=60,
        data_segments_sent=3,
        retransmitted=1,
        dsack_duplicates=2,
        reordering_seen=5,
        busy_us=8_000,
        rwnd_limited_us=4_000,
        sndbuf_limited_us=2_000,
        reset=Reset.RECEIVED,
        rate_delivered=10,
        rate_interval_us=8_000,
        mss=1_000,
    )
    close(flows, told)
    assert only(window(flows)) == Flow(
        tenant="default",
        agent="pacs",
        window_us=0,
        window_length_us=10_000_000,
        process="getscu",
        pid=4121,
        uid=1000,
        executable="/usr/bin/getscu",
        unit="reading.service",
        container="",
        direction=Direction.OUT,
        local_address=CLIENT,
        remote_address=SERVER,
        service_port=4242,
        netns=9,
        opened=1,
        closed=1,
        resets_received=1,
        bytes_sent=100,
        bytes_received=500,
        bytes_retransmitted=60,
        segments_sent=3,
        segments_retransmitted=1,
        dsack_duplicates=2,
        reordering_seen=5,
        duration_us=100_000,
        busy_us=8_000,
        rwnd_limited_us=4_000,
        sndbuf_limited_us=2_000,
        rtt_min_us=19_000,
        srtt_us=20_000,
        srtt_histogram=(bucket(20_000), 1),
        connect_us=20_000,
        delivery_kbps=10_000,
        congestion="cubic",
    )
    assert window(flows) == []


def test_a_long_session_is_counted_piece_by_piece() -> None:
    flows = table()
    flows.take_open([session(bytes_received=1_000)])
    first = only(window(flows))
    flows.take_open([session(bytes_received=1_500, busy_us=4_000)])
    second = only(window(flows))
    flows.take_open([session(bytes_received=1_500, busy_us=4_000)])
    idle = window(flows)
    close(flows, closed(bytes_received=1_601, fin_received=1, busy_us=12_000))
    last = only(window(flows))

    assert [row.bytes_received for row in (first, second, last)] == [1_000, 500, 100]
    assert [row.busy_us for row in (first, second, last)] == [0, 4_000, 8_000]
    assert [(row.opened, row.closed) for row in (first, second, last)] == [(1, 0), (0, 0), (0, 1)]
    assert [row.duration_us for row in (first, second, last)] == [0, 0, 100_000]
    assert idle == []


def test_a_session_told_before_is_found_among_thousands() -> None:
    flows = table()
    flows.take_open([session(cookie=5, bytes_received=1_000)])
    window(flows)
    others = [closed(cookie=5, first_seen_ns=n, bytes_received=1) for n in range(2, 3 * RUN_PIECE)]
    close(flows, *others, closed(cookie=5, bytes_received=1_100), *others)
    row = only(window(flows))
    assert (row.opened, row.closed) == (2 * len(others), 2 * len(others) + 1)
    assert row.bytes_received == 2 * len(others) + 100


def test_a_kernel_address_that_is_used_again_is_another_session() -> None:
    """The next session was told by the snapshot while the close of the last one waited in the ring."""
    flows = table()
    flows.take_open([session(bytes_received=1_000)])
    flows.take_open([session(first_seen_ns=2_000_000, bytes_received=50)])
    close(flows, closed(bytes_received=1_010))
    close(flows, closed(first_seen_ns=2_000_000, bytes_received=60))
    row = only(window(flows))
    assert (row.opened, row.closed, row.bytes_received) == (2, 2, 1_070)


def test_a_path_is_told_by_new_segments_only() -> None:
    flows = table()
    flows.take_open([session(data_segments_sent=5)])
    assert only(window(flows)).srtt_us == 20_000
    flows.take_open([session(data_segments_sent=5, bytes_received=10)])
    row = only(window(flows))
    assert (row.srtt_us, row.srtt_histogram, row.rtt_min_us, row.connect_us) == (None, (), None, None)
    flows.take_open([session(data_segments_sent=6, bytes_received=10, srtt_us=30_000)])
    row = only(window(flows))
    assert (row.srtt_us, row.srtt_histogram) == (30_000, (bucket(30_000), 1))


def test_what_happened_before_the_agent_belongs_to_no_window() -> None:
    older = {"opener": Opener.UNKNOWN, "syn_ns": 0, "established_ns": 0}
    flows = table()
    flows.take_open([session(**older, bytes_received=1_000_000)])
    assert window(flows) == []
    flows.take_open([session(**older, bytes_received=1_000_300)])
    row = only(window(flows))
    assert (row.bytes_received, row.opened, row.direction) == (300, 0, Direction.UNKNOWN)


def test_an_older_session_that_closes_first_thing_only_closes() -> None:
    flows = table()
    close(flows, closed(opener=Opener.UNKNOWN, first_seen_ns=0, bytes_received=1_000_000))
    row = only(window(flows))
    assert (row.closed, row.opened, row.bytes_received, row.duration_us) == (1, 0, 0, 0)


def test_the_peer_opened_where_something_listens() -> None:
    older = {
        "opener": Opener.UNKNOWN,
        "remote_port": 80,
        "service_port": 80,
    }  # the source took the lower port
    flows = table()
    flows.take_open([served(**older, bytes_received=5), listening()])
    flows.take_open([served(**older, bytes_received=8)])  # its listener is gone; it keeps its direction
    row = only(window(flows))
    assert (row.direction, row.service_port, row.bytes_received) == (Direction.IN, 4242, 3)


def test_a_listener_of_another_namespace_says_nothing() -> None:
    older = {"opener": Opener.UNKNOWN}
    flows = table()
    flows.take_open([listening(netns=8), served(**older)])
    flows.take_open([listening(netns=8), served(**older, bytes_received=8)])
    assert only(window(flows)).direction == Direction.UNKNOWN


def test_a_session_that_nobody_used_was_its_listeners() -> None:
    source = Source()
    source.facts[50, 5_000_000_000] = OwnerFacts(uid=7, executable="/usr/sbin/Orthanc", cgroup="")
    flows = table(source)
    flows.take_open([listening()])
    unused = {"state": TcpState.CLOSE, "pid": 0, "command": b"", "owner_started_ns": 0}
    close(
        flows,
        served(**unused),
        served(**unused, cookie=8, reset=Reset.SENT),
        served(state=TcpState.CLOSE, cookie=9),
    )
    row = only(window(flows))
    assert (row.process, row.pid, row.uid, row.direction) == ("Orthanc", 50, 7, Direction.IN)
    assert (row.closed, row.guessed, row.resets_sent) == (3, 2, 1)


def test_the_listener_of_that_address_is_preferred() -> None:
    flows = table()
    elsewhere = {"local": packed("192.0.2.77"), "command": b"elsewhere", "pid": 51}
    anywhere = {"local": bytes(16), "command": b"anywhere", "pid": 52}
    flows.take_open([listening(**elsewhere), listening(**anywhere), listening()])
    unused = {"state": TcpState.CLOSE, "pid": 0, "command": b""}
    close(flows, served(**unused), served(**unused, local=packed("192.0.2.78")))
    assert {row.process for row in window(flows)} == {"Orthanc", "anywhere"}


def test_a_listener_that_came_after_its_sessions_is_learned_in_time() -> None:
    flows = table()
    close(flows, served(state=TcpState.CLOSE, pid=0, command=b"", bytes_received=20))
    flows.take_open([listening()])
    row = only(window(flows))
    assert (row.process, row.guessed, row.bytes_received) == ("Orthanc", 1, 20)
    assert window(flows) == []


def test_an_owner_that_is_not_known_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_UNOWNED", 1)  # the second and third do not wait
    flows = table()
    close(
        flows, *(served(state=TcpState.CLOSE, pid=0, command=b"", cookie=n, remote_port=n) for n in (1, 2, 3))
    )
    row = only(window(flows))
    assert (row.process, row.pid, row.closed, row.guessed) == ("", None, 3, 0)


def test_a_refused_connection_is_a_row_of_its_failure_only() -> None:
    flows = table()
    flows.take_open([session(state=TcpState.SYN_SENT, established=0, established_ns=0)])
    refused = {"established": 0, "established_ns": 0, "old_state": TcpState.SYN_SENT, "bytes_acked": 0}
    close(flows, closed(**refused, reset=Reset.RECEIVED, srtt_us=0, min_rtt_us=NOT_MEASURED_U32))
    row = only(window(flows))
    assert (row.failed, row.opened, row.closed, row.resets_received) == (1, 0, 0, 0)
    assert (row.process, row.remote_address, row.service_port) == ("getscu", SERVER, 4242)
    assert (row.srtt_us, row.connect_us, row.bytes_sent) == (None, None, 0)


def test_a_socket_of_two_processes_counts_once() -> None:
    flows = table()
    flows.take_open([session(bytes_received=100), session(bytes_received=100)])
    row = only(window(flows))
    assert (row.opened, row.bytes_received) == (1, 100)


def test_sessions_of_one_process_with_one_service_are_one_row() -> None:
    flows = table()
    several = [
        closed(
            cookie=n,
            local_port=40_000 + n,
            bytes_received=10,
            srtt_us=n * 1_000,
            min_rtt_us=n * 500,
            established_ns=1_000_000 + n * 2_000_000,
        )
        for n in (1, 2, 6)
    ]
    close(flows, *several)
    row = only(window(flows))
    assert (row.opened, row.closed, row.bytes_received) == (3, 3, 30)
    assert (row.srtt_us, row.rtt_min_us, row.connect_us) == (2_000, 500, 4_000)


def test_short_lived_processes_of_one_program_are_one_row() -> None:
    source = Source()
    for pid in range(100, 200):
        source.facts[pid, pid] = OwnerFacts(uid=0, executable="/usr/bin/curl", cgroup="backup.service")
    flows = table(source)
    close(flows, *(closed(cookie=n, pid=n, owner_started_ns=n, bytes_received=5) for n in range(100, 200)))
    row = only(window(flows))
    assert (row.closed, row.bytes_received, row.pid, row.unit) == (100, 500, 199, "backup.service")


@pytest.mark.parametrize(
    "difference",
    [
        {"command": b"curl"},
        {"remote": packed("192.0.2.3")},
        {"service_port": 80},
        {"opener": Opener.REMOTE},
        {"netns": 10},
        {"pid": 4122},
    ],
)
def test_what_differs_is_another_row(difference: dict[str, Any]) -> None:
    source = Source()
    source.facts[4122, 5_000_000_000] = OwnerFacts(uid=5, executable="", cgroup="")
    flows = table(source)
    close(flows, closed(), closed(cookie=8, **difference))
    assert len(window(flows)) == 2


def test_no_sample_is_none_not_zero() -> None:
    flows = table()
    close(flows, closed(srtt_us=0, min_rtt_us=NOT_MEASURED_U32))
    row = only(window(flows))
    assert (row.srtt_us, row.rtt_min_us, row.delivery_kbps) == (None, None, None)
    assert (row.srtt_histogram, row.srtt_lasting_histogram) == ((), ())


def test_sessions_that_lasted_have_a_histogram_of_their_own() -> None:
    flows = table()
    lasting = {"at_ns": HALF_A_SECOND_ON, "srtt_us": 300}
    close(flows, closed(srtt_us=100), closed(cookie=8, **lasting), closed(cookie=9, srtt_us=100))
    flows.take_open([session(cookie=10, at_ns=HALF_A_SECOND_ON - 1), session(cookie=11, **lasting)])
    row = only(window(flows))
    assert counts_of([row.srtt_histogram]) == {bucket(100): 2, bucket(300): 2, bucket(20_000): 1}
    assert counts_of([row.srtt_lasting_histogram]) == {bucket(300): 2}


def test_a_rate_that_the_application_limited_is_not_the_paths() -> None:
    rate = {"rate_delivered": 10, "rate_interval_us": 8_000, "mss": 1_000}
    few = rate | {"rate_delivered": 9}
    flows = table()
    close(flows, closed(**rate, app_limited=1), closed(cookie=8, rate_delivered=0), closed(cookie=9, **few))
    assert only(window(flows)).delivery_kbps is None


def test_the_greatest_rate_is_told() -> None:
    rate = {"rate_interval_us": 8_000, "mss": 1_000}
    flows = table()
    close(flows, *(closed(**rate, cookie=n, rate_delivered=n) for n in (10, 30, 20)))
    assert only(window(flows)).delivery_kbps == 30_000


def test_a_session_that_no_process_holds_is_remembered_for_a_while() -> None:
    flows = table()
    flows.take_open([session(bytes_received=100)])
    for _ in range(ORPHAN_WINDOWS):
        window(flows)
    close(flows, closed(bytes_received=130))
    assert only(window(flows)).bytes_received == 30


def test_too_many_flows_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_FLOWS", 2)
    flows = table()
    close(flows, *(closed(cookie=n, service_port=n) for n in range(1, 6)))
    flows.take_open([session(cookie=9, service_port=9)])
    assert (len(window(flows)), flows.dropped) == (2, 4)


def test_groups_without_a_place_in_memory_still_find_their_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_GROUPS", 1)
    monkeypatch.setattr(sessions, "MOST_PENDING", 1)
    flows = table()
    for n in range(4):
        close(flows, closed(cookie=n, pid=n % 2 + 1))
    assert only(window(flows)).closed == 4


def test_too_many_open_sessions_are_counted_at_their_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MOST_SESSIONS", 1)
    flows = table()
    for received in (100, 200):
        flows.take_open([session(cookie=n, bytes_received=received) for n in (1, 2)])
    close(flows, *(closed(cookie=n, bytes_received=300) for n in (1, 2)))
    row = only(window(flows))
    assert (row.opened, row.closed, row.bytes_received) == (2, 2, 600)


def test_the_median_of_very_many_stays_near() -> None:
    flows = table()
    for begin in range(1, 20_001, 500):
        close(flows, *(closed(cookie=n, srtt_us=n) for n in range(begin, begin + 500)))
    row = only(window(flows))
    assert row.opened == 20_000
    assert row.srtt_us == pytest.approx(10_000, rel=0.01)


def test_rows_pass_the_servers_check() -> None:
    flows = table()
    flows.take_open([listening()])
    close(
        flows,
        closed(at_ns=HALF_A_SECOND_ON),
        served(state=TcpState.CLOSE, command=b"\xff" * 16, cookie=8),
        closed(cookie=9, local=bytes.fromhex("20010db8") + bytes(12), srtt_us=NOT_MEASURED_U32 >> 3),
    )
    rows = window(flows)
    body = pack_batch(agent="pacs", boot="00c0ffee", batch=1, tables={"flows": rows})
    assert len(rows) == 3
    assert check_batch(body)
    assert msgspec.convert(msgspec.to_builtins(rows), list[Flow]) == rows
