"""Every number that the programs tell equals TCP_INFO as the application read it at the close.

The rule for reading it is in ``apps/talk.py``. Tolerance: none, for counters and for times. One thing the
application cannot know: a repeated segment that another CPU holds at the moment of the close is counted in
segments_received (and data_segments_received) right after it. And one thing the kernel settles after a close
that a peer's reset is: it stops the clock of what was to be sent, which may have ticked once more by then.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ebpf.events import NOT_MEASURED_U32, Reset, SessionEvent, TcpState
from ebpf.load import open_monitor, tick_us

pytestmark = pytest.mark.kernel

Start = Callable[..., Any]
Collect = Callable[..., list[SessionEvent]]
CONNECTIONS = 211
JUMBLED_CONNECTIONS = 33
PORT = 7000

TCP_INFO: dict[str, tuple[int, str]] = {
    "app_limited": (7, "=B"),
    "mss": (16, "=I"),
    "lost": (32, "=I"),
    "srtt_us": (68, "=I"),
    "rttvar_us": (72, "=I"),
    "cwnd": (80, "=I"),
    "reordering": (88, "=I"),
    "retransmitted": (100, "=I"),
    "bytes_acked": (120, "=Q"),
    "bytes_received": (128, "=Q"),
    "segments_sent": (136, "=I"),
    "segments_received": (140, "=I"),
    "min_rtt_us": (148, "=I"),
    "data_segments_received": (152, "=I"),
    "data_segments_sent": (156, "=I"),
    "delivery_bytes_per_s": (160, "=Q"),
    "busy_us": (168, "=Q"),
    "rwnd_limited_us": (176, "=Q"),
    "sndbuf_limited_us": (184, "=Q"),
    "bytes_sent": (200, "=Q"),
    "bytes_retransmitted": (208, "=Q"),
    "dsack_duplicates": (216, "=I"),
    "reordering_seen": (220, "=I"),
    "peer_window": (228, "=I"),
}
"""Member of an event -> offset and type in struct tcp_info (include/uapi/linux/tcp.h)."""

LATE = ("segments_received", "data_segments_received")
LATE_SEGMENTS = 2

UNSETTLED = {
    *LATE,
    "segments_sent",
    "dsack_duplicates",
    "cwnd",
    "peer_window",
    "reordering",
}
"""What can change between the reading and an abort, because the peer may send again what was acknowledged,
say that it had something twice, or open its window. All else is settled: nothing is in flight."""

LIMITS = ("busy_us", "rwnd_limited_us", "sndbuf_limited_us")
SURE_WITH_LOSS = ("retransmitted", "busy_us", "rwnd_limited_us")  # its round trip is less than a tick
REORDERING = ("reordering_seen", "dsack_duplicates")


class Talked(NamedTuple):
    """What was told of one run of ``talk.py``, by whom."""

    called: list[dict[str, Any]]
    answered: list[dict[str, Any]]
    events: list[SessionEvent]


def told_by_kernel(event: SessionEvent) -> dict[str, int]:
    return {name: getattr(event, name) or 0 for name in TCP_INFO}


def told_by_tcp_info(info: bytes) -> dict[str, int]:
    values = {name: struct.unpack_from(kind, info, at)[0] for name, (at, kind) in TCP_INFO.items()}
    return values | {"app_limited": values["app_limited"] & 1}


def assert_equal(event: SessionEvent, report: dict[str, Any]) -> None:
    """Compare one end with what its application said of it."""
    told, info = told_by_kernel(event), told_by_tcp_info(bytes.fromhex(report["info"]))
    left_out = UNSETTLED if report.get("aborted") else set(LATE)
    if event.reset & Reset.RECEIVED:
        for name in LIMITS:
            assert info[name] - told[name] in (0, tick_us()), (name, event, report)
        left_out = {*left_out, *LIMITS}
    for name in LATE:
        assert 0 <= info[name] - told[name] <= LATE_SEGMENTS or name in UNSETTLED & left_out
    assert without(told, left_out) == without(info, left_out), report
    assert event.congestion.rstrip(b"\0").decode() == report["congestion"]
    assert (event.pid, event.payload_received) == (report["pid"], report["received"]), (event, report)


def without(values: dict[str, int], names: set[str]) -> dict[str, int]:
    return {name: value for name, value in values.items() if name not in names}


def talk(cable: Any, cache: Path, start: Start, collect: Collect, count: int) -> Talked:
    """Make that many connections of all kinds from left to right, each end under a monitor of its own."""
    server = start(cable.right.app("talk.py", "serve", "::", PORT, count), ready="ready")
    servers = (cable.right.v4, cable.right.v6, PORT)
    with (
        open_monitor(netns=cable.left.inode, cache=cache) as left,
        open_monitor(netns=cable.right.inode, cache=cache) as right,
    ):
        called = json.loads(cable.left.run_app("talk.py", "connect", *servers, count))
        answered = json.loads(server.communicate()[0])
        events = [event for monitor in (left, right) for event in collect(monitor, count, port=PORT)]
        assert sum(left.counters().lost) == sum(right.counters().lost) == 0
    return Talked(called, answered, events)


def compare(talked: Talked, cable: Any, count: int) -> None:
    """Both ends of every connection, each with its own application."""
    clients = {f"{e.local_address} {e.local_port}": e for e in talked.events if e.remote_port == PORT}
    servers = {f"{e.remote_address} {e.remote_port}": e for e in talked.events if e.local_port == PORT}
    assert len(talked.events) == 2 * count, talked.events
    assert len(talked.called) == len(talked.answered) == len(clients) == len(servers) == count
    for report in talked.answered:
        assert_equal(servers[report["client"]], report)
    for report in talked.called:
        event = clients[report["client"]]
        assert_equal(event, report)
        assert event.payload_acked == report["sent"], (event, report)
        assert (Reset.SENT in Reset(event.reset)) == report["aborted"]
        assert event.connect_us is None or 0 < event.connect_us <= report["connect_us"]
    assert {event.remote_address for event in clients.values()} == {cable.right.v4, cable.right.v6}
    assert {event.remote_address for event in servers.values()} == {cable.left.v4, cable.left.v6}
    assert {event.service_port for event in talked.events} == {PORT}
    assert {event.netns for event in clients.values()} == {cable.left.inode}


def test_every_number_equals_tcp_info(lossy: Any, cache: Path, start: Start, collect: Collect) -> None:
    talked = talk(lossy, cache, start, collect, CONNECTIONS)
    compare(talked, lossy, CONNECTIONS)

    # The kernel may leave a program out, and with it the moment of a connect, when a softirq interrupts it.
    assert sum(event.connect_us is not None for event in talked.events) >= 0.95 * CONNECTIONS
    occurred = {name: sum(getattr(e, name) > 0 for e in talked.events) for name in SURE_WITH_LOSS}
    assert all(occurred.values()), f"the test showed too little: {occurred}"


def test_reordering_equals_tcp_info(jumbled: Any, cache: Path, start: Start, collect: Collect) -> None:
    """Segments that overtake each other, are sent twice for it, and are said to be doubles (DSACK)."""
    talked = talk(jumbled, cache, start, collect, JUMBLED_CONNECTIONS)
    compare(talked, jumbled, JUMBLED_CONNECTIONS)
    occurred = {name: sum(getattr(e, name) > 0 for e in talked.events) for name in (*REORDERING, *LIMITS)}
    assert all(occurred.values()), f"the test showed too little: {occurred}"


def test_a_session_without_a_sample_says_so(cable: Any, cache: Path, collect: Collect) -> None:
    """The side that accepted and never sent a byte has a round trip of the handshake; a refused one none."""
    attempt = f"import socket; print(socket.socket().connect_ex(('{cable.right.v4}', 9)))"
    with open_monitor(netns=None, cache=cache) as monitor:
        assert int(cable.left.run_code(attempt)) > 0
        (event,) = collect(monitor, 1, port=9, established=0)
    assert (event.srtt_us, event.min_rtt_us, event.bytes_acked, event.connect_us) == (
        0,
        NOT_MEASURED_U32,
        0,
        None,
    )


LIVE = """
import socket as s, sys
say = lambda sock: print(sock.getsockopt(s.IPPROTO_TCP, s.TCP_INFO, 256).hex(), flush=True)
sys.stdin.readline()
l = s.create_server(('127.0.0.1', 7001)); c = s.create_connection(('127.0.0.1', 7001))
a, _ = l.accept()
[(c.sendall(b'x' * n), a.recv(n, s.MSG_WAITALL)) for n in (1, 1000, 50000)]
a.sendall(b'done'); c.recv(4)
say(c); sys.stdin.readline()
"""


def test_open_sessions_equal_tcp_info(cable: Any, cache: Path, start: Start) -> None:
    """A snapshot of an idle session, too."""
    client = start(cable.left.code(LIVE))
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        client.stdin.write("go\n")
        client.stdin.flush()
        info = bytes.fromhex(client.stdout.readline())
        snapshot = monitor.snapshot()

    (event,) = (e for e in snapshot if e.remote_port == 7001)
    assert told_by_kernel(event) == told_by_tcp_info(info)
    assert [e.local_port for e in snapshot if e.state == TcpState.LISTEN] == [7001]
    assert event.payload_acked == 51_001
    assert event.payload_received == 4
