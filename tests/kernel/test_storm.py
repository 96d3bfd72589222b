"""Every session of a storm is delivered once, or counted as lost."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebpf.events import RUN, Opener, SessionEvent, decode_run
from ebpf.load import Monitor, open_monitor
from tests.kernel.conftest import COLLECT_LIMIT_S

pytestmark = pytest.mark.kernel

Start = Callable[..., subprocess.Popen[str]]
Built = Callable[[str], Path]
CONNECTIONS = 20_011  # a prime, which no batch size hits by chance
CLOSES = 2 * CONNECTIONS
PAIRS, UP, DOWN = 4, 101, 1_009
PAUSE_S = 0.01
LEFT_OUT = 0.05  # at most, of the sessions: times that the kernel left out with a run of a program


@pytest.fixture(autouse=True)
def room(cable: Any) -> None:
    """Let all be in TIME-WAIT at once: where the memory allows fewer, the kernel resets the others."""
    cable.left.run(cable.left.argv("sysctl", "-wq", f"net.ipv4.tcp_max_tw_buckets={CLOSES}"))


def storm(cable: Any, built: Built) -> list[str]:
    options = ("-n", CONNECTIONS, "-p", PAIRS, "-q", UP, "-a", DOWN)
    argv: list[str] = cable.left.argv(built("storm"), *options)
    return argv


def drain_until_all_closed(monitor: Monitor) -> list[SessionEvent]:
    """Read while the storm is on, and until all are told or lost: a close is counted before it is written.

    The last ends close a moment after the applications let go.
    """
    runs = [monitor.drain()]
    while sum(map(len, runs)) // RUN.size + sum(monitor.counters().lost) < CLOSES:
        time.sleep(PAUSE_S)
        runs.append(monitor.drain())
    runs.append(monitor.drain())  # nothing is told twice
    return [event for run in runs for event in decode_run(run)]


def wait_until_all_closed(monitor: Monitor) -> None:
    while sum(monitor.counters().seen) < CLOSES:
        time.sleep(PAUSE_S)


def test_with_a_reader_none_is_lost(cable: Any, cache: Path, start: Start, built: Built) -> None:
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        blowing = start(storm(cable, built))
        events = drain_until_all_closed(monitor)
        told = json.loads(blowing.communicate()[0])
        counters = monitor.counters()

    assert (sum(counters.seen), sum(counters.lost)) == (CLOSES, 0)
    assert len(events) == len({event.key for event in events}) == CLOSES
    assert_each_is_right(events, told)
    timed = [event.connect_us for event in events if event.connect_us is not None]
    assert len(timed) >= (1 - LEFT_OUT) * CONNECTIONS
    assert min(timed) >= 0


def assert_each_is_right(events: list[SessionEvent], told: dict[str, Any]) -> None:
    """Process, payload and count of every session, by the storm's own word."""
    shares = [CONNECTIONS // PAIRS + (pair < CONNECTIONS % PAIRS) for pair in range(PAIRS)]
    expected: Counter[tuple[int, ...]] = Counter()
    for pair, share in enumerate(shares):
        port = told["ports"][pair]
        expected[port, told["clients"][pair], Opener.LOCAL, UP, DOWN] = share
        expected[port, told["servers"][pair], Opener.REMOTE, DOWN, UP] = share
    seen = Counter((e.service_port, e.pid, e.opener, e.payload_acked, e.payload_received) for e in events)
    assert seen == expected
    assert {(event.established, event.reset, event.error) for event in events} == {(1, 0, 0)}


def test_without_a_reader_delivered_and_lost_are_all(
    cable: Any, cache: Path, start: Start, built: Built
) -> None:
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        start(storm(cable, built)).communicate()
        wait_until_all_closed(monitor)
        delivered = drain_until_all_closed(monitor)
        counters = monitor.counters()
        assert monitor.drain() == b""

    assert sum(counters.seen) == CLOSES
    assert 0 < len(delivered) < CLOSES
    assert len(delivered) == len({event.key for event in delivered})
    assert len(delivered) + sum(counters.lost) == CLOSES
    # By CPU: none lost more than it saw, and what they did not lose was delivered.
    assert len(counters.seen) == len(counters.lost) >= 1
    kept = [seen - lost for seen, lost in zip(counters.seen, counters.lost, strict=True)]
    assert min(kept) >= 0
    assert sum(kept) == len(delivered)


OPEN_AT_ONCE = 6_011
ROOM_FOR_ALL = 4 * 1024 * 1024
HOLD = f"""
import os, resource, socket as s
resource.setrlimit(resource.RLIMIT_NOFILE, (3 * {OPEN_AT_ONCE}, 3 * {OPEN_AT_ONCE}))
l = s.create_server(('127.0.0.1', 0)); both = []
for _ in range({OPEN_AT_ONCE}):
    c = s.create_connection(l.getsockname()); a, _ = l.accept(); both.append((c, a))
[(c.sendall(b'x'), a.recv(1)) for c, a in both]; [(c.close(), a.close()) for c, a in both]
print(os.getpid())
"""


def test_many_open_at_once_do_not_take_each_others_places(cable: Any, cache: Path) -> None:
    """A place is found by the socket's address: of so many sockets, hundreds meet another."""
    with open_monitor(netns=cable.left.inode, cache=cache, ring_bytes=ROOM_FOR_ALL) as monitor:
        pid = int(cable.left.run_code(HOLD))
        end = time.monotonic() + COLLECT_LIMIT_S
        events: list[SessionEvent] = []
        while len(events) < 2 * OPEN_AT_ONCE and time.monotonic() < end:
            events += decode_run(monitor.drain())
            time.sleep(PAUSE_S)
        assert sum(monitor.counters().lost) == 0
    told = Counter(
        (event.pid, event.opener, event.established, bool(event.first_seen_ns)) for event in events
    )
    assert told == {(pid, opener, 1, True): OPEN_AT_ONCE for opener in (Opener.LOCAL, Opener.REMOTE)}
