"""Every number that the programs tell equals TCP_INFO as the application read it at the close.

The rule for reading it is in ``apps/talk.py``. Tolerance: none, for counters and for times; but a repeated
segment that is on its way into the socket at the close is counted in segments_received after it.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebpf.events import SessionEvent, TcpState
from ebpf.load import open_monitor

pytestmark = pytest.mark.kernel

Collect = Callable[..., list[SessionEvent]]
CONNECTIONS = 61
PORT = 7000

TCP_INFO: dict[str, tuple[int, str]] = {
    "srtt_us": (68, "=I"),
    "rttvar_us": (72, "=I"),
    "cwnd": (80, "=I"),
    "mss": (16, "=I"),
    "retransmitted": (100, "=I"),
    "bytes_acked": (120, "=Q"),
    "bytes_received": (128, "=Q"),
    "segments_sent": (136, "=I"),
    "segments_received": (140, "=I"),
    "min_rtt_us": (148, "=I"),
    "data_segments_sent": (156, "=I"),
    "delivery_bytes_per_s": (160, "=Q"),
    "app_limited": (7, "=B"),
}
"""Member of an event -> offset and type in struct tcp_info (include/uapi/linux/tcp.h)."""

SETTLED = ("retransmitted", "bytes_acked", "bytes_received", "data_segments_sent", "mss", "min_rtt_us")
"""What cannot change between the reading and an abort: all was acknowledged, and the peer had sent all."""


LATE_SEGMENTS = 2


def assert_equal(told: dict[str, int], info: dict[str, int]) -> None:
    late = info.get("segments_received", 0) - told.get("segments_received", 0)
    assert 0 <= late <= LATE_SEGMENTS
    assert told | {"segments_received": 0} == info | {"segments_received": 0}


def told_by_kernel(event: SessionEvent) -> dict[str, int]:
    return {name: getattr(event, name) or 0 for name in TCP_INFO}


def told_by_tcp_info(report: dict[str, Any]) -> dict[str, int]:
    info = bytes.fromhex(report["info"])
    values = {name: struct.unpack_from(kind, info, at)[0] for name, (at, kind) in TCP_INFO.items()}
    return values | {"app_limited": values["app_limited"] & 1}


def test_every_number_equals_tcp_info(
    lossy: Any, cache: Path, start: Callable[..., Any], collect: Collect
) -> None:
    server = start(lossy.right.app("talk.py", "serve", "::", PORT, CONNECTIONS), ready="ready")
    with open_monitor(netns=None, cache=cache) as monitor:
        called = json.loads(
            lossy.left.run_app("talk.py", "connect", lossy.right.v4, lossy.right.v6, PORT, CONNECTIONS)
        )
        answered = json.loads(server.communicate(timeout=30)[0])
        events = collect(monitor, 2 * CONNECTIONS, port=PORT)
        assert monitor.lost == 0

    clients = {f"{e.local_address} {e.local_port}": e for e in events if e.netns == lossy.left.inode}
    servers = {f"{e.remote_address} {e.remote_port}": e for e in events if e.netns == lossy.right.inode}
    assert len(events) == 2 * CONNECTIONS, events
    assert len(called) == len(answered) == len(clients) == len(servers) == CONNECTIONS

    for report in answered:
        event = servers[report["client"]]
        assert_equal(told_by_kernel(event), told_by_tcp_info(report))
        assert (event.pid, event.payload_received) == (report["pid"], report["received"])
    timed = 0
    for report in called:
        event = clients[report["client"]]
        kernel, info = told_by_kernel(event), told_by_tcp_info(report)
        if report["aborted"]:
            kernel, info = ({name: told[name] for name in SETTLED} for told in (kernel, info))
        assert_equal(kernel, info)
        assert (event.pid, event.payload_acked, event.payload_received) == (
            report["pid"],
            report["sent"],
            report["received"],
        ), (event, report)
        if event.connect_us is not None:
            timed += 1
            assert 0 < event.connect_us <= report["connect_us"]

    # The kernel may leave a program out, and with it the moment of a connect, when a softirq interrupts it.
    assert timed >= 0.95 * CONNECTIONS
    assert sum(event.retransmitted for event in events) > 0, "the cable lost nothing: the test showed little"
    assert {event.remote_address for event in clients.values()} == {lossy.right.v4, lossy.right.v6}
    assert {event.remote_address for event in servers.values()} == {lossy.left.v4, lossy.left.v6}


def test_open_sessions_equal_tcp_info(cable: Any, cache: Path, start: Callable[..., Any]) -> None:
    """A snapshot of an idle session, too."""
    client = start(
        cable.left.code(
            "import socket as s, sys\n"
            "sys.stdin.readline()\n"
            "l = s.create_server(('127.0.0.1', 7001)); c = s.create_connection(('127.0.0.1', 7001))\n"
            "a, _ = l.accept()\n"
            "[(c.sendall(b'x' * n), a.recv(n, s.MSG_WAITALL)) for n in (1, 1000, 50000)]\n"
            "a.sendall(b'done'); c.recv(4)\n"
            "print(c.getsockopt(s.IPPROTO_TCP, s.TCP_INFO, 256).hex(), flush=True)\n"
            "sys.stdin.readline()\n",
        )
    )
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        client.stdin.write("go\n")
        client.stdin.flush()
        info = client.stdout.readline()
        snapshot = monitor.snapshot()

    (event,) = (e for e in snapshot if e.remote_port == 7001)
    assert told_by_kernel(event) == told_by_tcp_info({"info": info.strip()})
    assert [e.local_port for e in snapshot if e.state == TcpState.LISTEN] == [7001]
    assert event.payload_acked == 51_001
    assert event.payload_received == 4
