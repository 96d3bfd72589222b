"""From sessions to flows: each byte in one window, once."""

from typing import Any

import msgspec
import pytest

from agent.passive import sessions
from agent.passive.sessions import ORPHAN_WINDOWS, FlowTable
from analytics.batch import check_batch, pack_batch
from analytics.measurement import Direction, Flow
from ebpf.events import FORMATS, NOT_MEASURED_U32, RECORD, Opener, SessionEvent, TcpState, decode

CLIENT, SERVER = "192.0.2.1", "192.0.2.2"


def packed(address: str) -> bytes:
    return bytes(10) + b"\xff\xff" + bytes(map(int, address.split(".")))


def session(**changes: Any) -> SessionEvent:
    """One end's view of an established session of getscu with the PACS at port 4242, begun at 1 ms."""
    members: dict[str, Any] = {name: b"" if code.endswith("s") else 0 for name, code in FORMATS.items()}
    members |= {
        "socket": 7,
        "first_seen_ns": 1_000_000,
        "syn_ns": 1_000_000,
        "established_ns": 21_000_000,
        "state": TcpState.ESTABLISHED,
        "opener": Opener.LOCAL,
        "pid": 4121,
        "command": b"getscu",
        "local": packed(CLIENT),
        "remote": packed(SERVER),
        "local_port": 40_001,
        "remote_port": 4242,
        "netns": 9,
        "bytes_acked": 1,
        "srtt_us": 20_000,
        "min_rtt_us": 19_000,
    }
    (event,) = decode(RECORD.pack(*(members | changes).values()))
    return event


def closed(**changes: Any) -> SessionEvent:
    return session(**{"state": TcpState.CLOSE, "old_state": TcpState.FIN_WAIT2} | changes)


def served(**changes: Any) -> SessionEvent:
    """The PACS's view of it."""
    return session(
        **{
            "opener": Opener.REMOTE,
            "local": packed(SERVER),
            "remote": packed(CLIENT),
            "local_port": 4242,
            "remote_port": 40_001,
            "pid": 50,
            "command": b"Orthanc",
        }
        | changes
    )


def listening(port: int = 4242, **changes: Any) -> SessionEvent:
    return served(**{"state": TcpState.LISTEN, "opener": 0, "socket": 99, "local_port": port} | changes)


def table() -> FlowTable:
    return FlowTable(agent="pacs", tenant="default")


def window(flows: FlowTable) -> list[Flow]:
    return flows.flows(window_us=0, window_length_us=10_000_000)


def only(rows: list[Flow]) -> Flow:
    (row,) = rows
    return row


def test_a_short_session_is_one_row() -> None:
    flows = table()
    flows.take_closed(
        [
            closed(
                bytes_acked=102,
                fin_acked=1,
                bytes_received=501,
                fin_received=1,
                data_segments_sent=3,
                retransmitted=1,
                rate_delivered=10,
                rate_interval_us=8_000,
                mss=1_000,
            )
        ]
    )
    assert only(window(flows)) == Flow(
        tenant="default",
        agent="pacs",
        window_us=0,
        window_length_us=10_000_000,
        process="getscu",
        pid=4121,
        direction=Direction.OUT,
        local_address=CLIENT,
        remote_address=SERVER,
        service_port=4242,
        netns=9,
        opened=1,
        closed=1,
        bytes_sent=100,
        bytes_received=500,
        segments_sent=3,
        segments_retransmitted=1,
        rtt_min_us=19_000,
        srtt_us=20_000,
        connect_us=20_000,
        delivery_kbps=10_000,
    )
    assert window(flows) == []


def test_a_long_session_is_counted_piece_by_piece() -> None:
    flows = table()
    flows.take_open([session(bytes_received=1_000)])
    first = only(window(flows))
    flows.take_open([session(bytes_received=1_500)])
    second = only(window(flows))
    flows.take_open([session(bytes_received=1_500)])
    idle = window(flows)
    flows.take_closed([closed(bytes_received=1_601, fin_received=1)])
    last = only(window(flows))

    assert [row.bytes_received for row in (first, second, last)] == [1_000, 500, 100]
    assert [(row.opened, row.closed) for row in (first, second, last)] == [(1, 0), (0, 0), (0, 1)]
    assert idle == []


def test_a_path_is_told_by_new_segments_only() -> None:
    flows = table()
    flows.take_open([session(data_segments_sent=5)])
    assert only(window(flows)).srtt_us == 20_000
    flows.take_open([session(data_segments_sent=5, bytes_received=10)])
    row = only(window(flows))
    assert (row.srtt_us, row.rtt_min_us, row.connect_us) == (None, None, None)


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
    flows.take_closed([closed(opener=Opener.UNKNOWN, first_seen_ns=0, bytes_received=1_000_000)])
    row = only(window(flows))
    assert (row.closed, row.opened, row.bytes_received) == (1, 0, 0)


def test_the_peer_opened_where_something_listens() -> None:
    older = {"opener": Opener.UNKNOWN}
    flows = table()
    flows.take_open([served(**older, bytes_received=5), listening()])
    flows.take_open(
        [served(**older, bytes_received=8)]
    )  # the listener is gone; the session keeps its direction
    row = only(window(flows))
    assert (row.direction, row.service_port, row.bytes_received) == (Direction.IN, 4242, 3)


def test_a_listener_of_another_namespace_says_nothing() -> None:
    older = {"opener": Opener.UNKNOWN}
    flows = table()
    flows.take_open([listening(netns=8), served(**older)])
    flows.take_open([listening(netns=8), served(**older, bytes_received=8)])
    assert only(window(flows)).direction == Direction.UNKNOWN


def test_a_session_that_nobody_used_was_its_listeners() -> None:
    flows = table()
    flows.take_open([listening()])
    flows.take_closed([served(state=TcpState.CLOSE, pid=0, command=b"")])
    row = only(window(flows))
    assert (row.process, row.pid, row.direction) == ("Orthanc", 50, Direction.IN)


def test_an_owner_that_is_not_known_stays_unknown() -> None:
    flows = table()
    flows.take_closed([served(state=TcpState.CLOSE, pid=0, command=b"")])
    row = only(window(flows))
    assert (row.process, row.pid) == ("", None)


def test_a_refused_connection_is_no_session() -> None:
    flows = table()
    flows.take_open([session(state=TcpState.SYN_SENT, established_ns=0)])
    flows.take_closed([closed(established_ns=0, old_state=TcpState.SYN_SENT)])
    assert window(flows) == []


def test_a_socket_of_two_processes_counts_once() -> None:
    flows = table()
    flows.take_open([session(bytes_received=100), session(bytes_received=100)])
    row = only(window(flows))
    assert (row.opened, row.bytes_received) == (1, 100)


def test_sessions_of_one_process_with_one_service_are_one_row() -> None:
    flows = table()
    flows.take_closed(
        closed(
            socket=n,
            local_port=40_000 + n,
            bytes_received=10,
            srtt_us=n * 1_000,
            min_rtt_us=n * 500,
            established_ns=1_000_000 + n * 2_000_000,
        )
        for n in (1, 2, 6)
    )
    row = only(window(flows))
    assert (row.opened, row.closed, row.bytes_received) == (3, 3, 30)
    assert (row.srtt_us, row.rtt_min_us, row.connect_us) == (2_000, 500, 4_000)


@pytest.mark.parametrize(
    "difference",
    [
        {"command": b"curl"},
        {"remote": packed("192.0.2.3")},
        {"remote_port": 80},
        {"opener": Opener.REMOTE},
        {"netns": 10},
    ],
)
def test_what_differs_is_another_row(difference: dict[str, Any]) -> None:
    flows = table()
    flows.take_closed([closed(), closed(socket=8, **difference)])
    assert len(window(flows)) == 2


def test_no_sample_is_none_not_zero() -> None:
    flows = table()
    flows.take_closed([closed(srtt_us=0, min_rtt_us=NOT_MEASURED_U32)])
    row = only(window(flows))
    assert (row.srtt_us, row.rtt_min_us, row.delivery_kbps) == (None, None, None)


def test_a_rate_that_the_application_limited_is_not_the_paths() -> None:
    rate = {"rate_delivered": 10, "rate_interval_us": 8_000, "mss": 1_000}
    flows = table()
    few = rate | {"rate_delivered": 9}
    flows.take_closed(
        [closed(**rate, app_limited=1), closed(socket=8, rate_delivered=0), closed(socket=9, **few)]
    )
    assert only(window(flows)).delivery_kbps is None


def test_a_session_that_no_process_holds_is_remembered_for_a_while() -> None:
    flows = table()
    flows.take_open([session(bytes_received=100)])
    for _ in range(ORPHAN_WINDOWS):
        window(flows)
    flows.take_closed([closed(bytes_received=130)])
    assert only(window(flows)).bytes_received == 30


def test_too_many_flows_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_FLOWS", 2)
    flows = table()
    flows.take_closed(closed(socket=n, remote_port=n) for n in range(1, 6))
    assert (len(window(flows)), flows.dropped) == (2, 3)


def test_too_many_open_sessions_are_counted_at_their_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 1)
    flows = table()
    for received in (100, 200):
        flows.take_open([session(socket=n, bytes_received=received) for n in (1, 2)])
    flows.take_closed([closed(socket=n, bytes_received=300) for n in (1, 2)])
    row = only(window(flows))
    assert (row.opened, row.closed, row.bytes_received) == (2, 2, 600)


def test_the_median_of_very_many_stays_near() -> None:
    flows = table()
    flows.take_closed(closed(socket=n, srtt_us=n) for n in range(1, 20_001))
    row = only(window(flows))
    assert row.opened == 20_000
    assert row.srtt_us == pytest.approx(10_000, rel=0.01)


def test_rows_pass_the_servers_check() -> None:
    flows = table()
    flows.take_open([listening()])
    flows.take_closed(
        [
            closed(),
            served(state=TcpState.CLOSE, command=b"\xff" * 16, socket=8),
            closed(socket=9, local=bytes.fromhex("20010db8") + bytes(12), srtt_us=NOT_MEASURED_U32 >> 3),
        ]
    )
    rows = window(flows)
    body = pack_batch(agent="pacs", boot="00c0ffee", batch=1, tables={"flows": rows})
    assert len(rows) == 3
    assert check_batch(body)
    assert msgspec.convert(msgspec.to_builtins(rows), list[Flow]) == rows
