"""Sessions by polling: equal to TCP_INFO where a poll sees them, counted where none does.

The tests poll by hand (``every_s=0``), so that what falls between two polls is theirs to say.
"""

import ctypes
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.passive.sockdiag import SockDiag, open_sockdiag
from ebpf.events import Opener, OwnerEvidence, SessionEvent, TcpState, decode_run

pytestmark = pytest.mark.kernel

Start = Callable[..., subprocess.Popen[str]]
CLONE_NEWNET = 0x40000000
NOBODY = 65_534
LIMIT_S = 60 * int(os.environ.get("PATHGRADE_TEST_PATIENCE", "1"))
SHORT = 61

TCP_INFO: dict[str, tuple[int, str]] = {
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
    "busy_us": (168, "=Q"),
    "rwnd_limited_us": (176, "=Q"),
    "sndbuf_limited_us": (184, "=Q"),
    "bytes_sent": (200, "=Q"),
    "bytes_retransmitted": (208, "=Q"),
    "dsack_duplicates": (216, "=I"),
    "reordering_seen": (220, "=I"),
    "peer_window": (228, "=I"),
}
"""Member of a record -> offset and type in struct tcp_info (include/uapi/linux/tcp.h)."""

CLIENT = (
    "import socket, sys\n"
    "c = socket.create_connection(('{address}', {port}))\n"
    "def info(): print(c.getsockopt(6, 11, 256).hex(), flush=True)\n"
    "for line in sys.stdin:\n"
    "    size = int(line)\n"
    "    if size: c.sendall(bytes(size)); c.recv(size, socket.MSG_WAITALL)\n"
    "    info()\n"
)
"""Sends as many bytes as each line says, gets them back, and prints TCP_INFO."""

SERVER = (
    "import socket, threading\n"
    "l = socket.create_server(('{address}', {port}), family={family}); print('ready', flush=True)\n"
    "def echo(a):\n"
    "    while data := a.recv(65536): a.sendall(data)\n"
    "    a.close()\n"
    "while True: threading.Thread(target=echo, args=(l.accept()[0],)).start()\n"
)


@contextmanager
def polling(namespace: Any) -> Iterator[SockDiag]:
    """Poll a namespace as an agent in it would: this thread moves there for as long."""
    with inside(namespace), open_sockdiag(netns=namespace.inode, every_s=0) as source:
        yield source


@contextmanager
def inside(namespace: Any) -> Iterator[None]:
    with Path("/proc/thread-self/ns/net").open() as home:
        with Path(f"/run/netns/{namespace.name}").open() as there:
            enter(there.fileno())
        try:
            yield
        finally:
            enter(home.fileno())


def enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):  # os.setns comes with Python 3.12
        raise OSError(ctypes.get_errno(), "setns")


def tell(process: subprocess.Popen[str], line: str = "go") -> str:
    """Send a line, read one."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def let_go(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=LIMIT_S)


def gone(source: SockDiag) -> list[SessionEvent]:
    """Poll twice, as it takes to be sure; what is told may have been found gone before."""
    return decode_run(source.drain()) + decode_run(source.drain())


def until(found: Callable[[], list[SessionEvent]], *, count: int = 1) -> list[SessionEvent]:
    """Poll until that many were told, all in all."""
    told: list[SessionEvent] = []
    end = time.monotonic() + LIMIT_S
    while len(told) < count:
        assert time.monotonic() < end, told
        told += found()
        time.sleep(0.01)
    return told


def one(events: list[SessionEvent], **wanted: int) -> SessionEvent:
    """Pick the one session, not listener, with these values."""
    (found,) = (
        event
        for event in events
        if event.state != TcpState.LISTEN and all(getattr(event, k) == v for k, v in wanted.items())
    )
    return found


def numbers(event: SessionEvent) -> dict[str, int]:
    return {name: getattr(event, name) for name in TCP_INFO}


def read(info: str) -> dict[str, int]:
    packed = bytes.fromhex(info)
    return {name: struct.unpack_from(kind, packed, at)[0] for name, (at, kind) in TCP_INFO.items()}


def at_rest(source: SockDiag, client: subprocess.Popen[str], port: int) -> tuple[SessionEvent, str]:
    """Take the record and TCP_INFO of a moment in which no late acknowledgement or repeat came in between."""
    end = time.monotonic() + LIMIT_S
    while True:
        before = tell(client, "0")
        event = one(source.snapshot(), remote_port=port)
        after = tell(client, "0")
        if read(before) == read(after):
            return event, after
        assert time.monotonic() < end, "never at rest"


def rate(info: str) -> int:
    (bytes_per_s,) = struct.unpack_from("=Q", bytes.fromhex(info), 160)
    return int(bytes_per_s)


@pytest.mark.parametrize(
    ("ip", "port", "size"), [("v4", 7200, 101), ("v6", 7201, 70_003), ("v4", 7202, 1_000_003)]
)
def test_long_sessions_over_a_lossy_cable_equal_tcp_info(
    lossy: Any, start: Start, ip: str, port: int, size: int
) -> None:
    address = getattr(lossy.right, ip)
    family = "socket.AF_INET6" if ip == "v6" else "socket.AF_INET"
    server = start(lossy.right.code(SERVER.format(address=address, port=port, family=family)), ready="ready")
    with polling(lossy.left) as source:
        client = start(lossy.left.code(CLIENT.format(address=address, port=port)))
        for _ in range(3):
            tell(client, str(size))
            event, info = at_rest(source, client, port)
            assert numbers(event) == read(info)
            assert event.delivery_bytes_per_s == pytest.approx(rate(info), rel=1 / event.rate_interval_us)
        assert (event.pid, event.process, event.opener) == (client.pid, "python", Opener.LOCAL)
        assert (event.payload_acked, event.payload_received) == (3 * size, 3 * size)
        assert (event.remote_address, event.local_address) == (address, getattr(lossy.left, ip))
        let_go(client)
        (closed,) = until(lambda: decode_run(source.drain()))
        assert closed.key == event.key
        assert (closed.pid, closed.payload_acked, closed.payload_received) == (client.pid, 3 * size, 3 * size)
        assert source.counters() == ((1,), (0,), 0)
    with polling(lossy.right) as source:
        assert {event.pid for event in source.snapshot() if event.state == TcpState.LISTEN} == {server.pid}


def test_both_ends_on_loopback_have_their_own_process(cable: Any, start: Start) -> None:
    server = start(
        cable.left.code(SERVER.format(address="127.0.0.1", port=7210, family="socket.AF_INET")), ready="ready"
    )
    with polling(cable.left) as source:
        client = start(cable.left.code(CLIENT.format(address="127.0.0.1", port=7210)))
        tell(client, "1009")
        told = source.snapshot()
        asked, answered = one(told, remote_port=7210), one(told, local_port=7210)
    assert (asked.pid, asked.opener, asked.service_port) == (client.pid, Opener.LOCAL, 7210)
    assert (answered.pid, answered.opener, answered.service_port) == (server.pid, Opener.REMOTE, 7210)
    assert {asked.owner_evidence, answered.owner_evidence} == {OwnerEvidence.FILE_TABLE}


def test_a_server_that_forks(cable: Any, start: Start) -> None:
    """The parent closes its copy when the child has its own: the child is the owner."""
    server = start(cable.left.app("fork_server.py", "7211", "1"), ready="ready")
    with polling(cable.left) as source:
        client = start(
            cable.left.code(
                "import socket, sys; c = socket.create_connection(('127.0.0.1', 7211))\n"
                "print('connected', flush=True)\n"
                "sys.stdin.readline(); c.sendall(b'question'); print(c.recv(99), flush=True); c.close()"
            ),
            ready="connected",
        )
        until(lambda: [e for e in source.snapshot() if e.local_port == 7211 and e.pid not in {0, server.pid}])
        assert tell(client) == "b'answer'"
        assert server.stdout is not None
        child = int(server.stdout.readline())
        closed = until(lambda: decode_run(source.drain()), count=2)
    assert one(closed, local_port=7211).pid == child
    assert one(closed, remote_port=7211).pid == client.pid


def test_of_a_server_and_its_child_that_both_hold_a_session_the_child_serves_it(
    cable: Any, start: Start
) -> None:
    server = start(
        cable.left.code(
            "import os, socket\n"
            "l = socket.create_server(('127.0.0.1', 7218)); print('ready', flush=True); a, _ = l.accept()\n"
            "child = os.fork()\n"
            "if not child: a.recv(1); os._exit(0)\n"
            "print(child, flush=True); os.waitpid(child, 0)"
        ),
        ready="ready",
    )
    with polling(cable.left) as source:
        client = start(cable.left.code(CLIENT.format(address="127.0.0.1", port=7218)))
        assert server.stdout is not None
        child = int(server.stdout.readline())
        assert one(source.snapshot(), local_port=7218).pid == child
        let_go(client)


def test_a_session_that_is_handed_to_another_process(cable: Any, start: Start) -> None:
    """Noticed by the next poll, because the descriptor that was known is no more the socket."""
    hand_over = start(
        cable.left.code(
            "import os, socket, subprocess, sys\n"
            "l = socket.create_server(('127.0.0.1', 7212)); c = socket.create_connection(l.getsockname())\n"
            "a, _ = l.accept(); l.close(); print('ready', flush=True); sys.stdin.readline()\n"
            "waits = [sys.executable, '-c', 'input()']\n"
            "p = subprocess.Popen(waits, stdin=subprocess.PIPE, pass_fds=[a.fileno()])\n"
            "a.close(); print(p.pid, flush=True); sys.stdin.readline(); p.communicate()"
        ),
        ready="ready",
    )
    with polling(cable.left) as source:
        before = one(source.snapshot(), local_port=7212)
        receiver = int(tell(hand_over))
        after = one(source.snapshot(), local_port=7212)
        let_go(hand_over)
    assert (before.pid, after.pid) == (hand_over.pid, receiver)
    assert before.key == after.key


def test_a_session_on_its_way_to_another_process_is_still_the_sender_s(cable: Any, start: Start) -> None:
    sender = start(
        cable.left.code(
            "import os, socket, sys\n"
            "def say(word): print(word, flush=True)\n"
            "here, there = socket.socketpair(); wait, go = os.pipe(); child = os.fork()\n"
            "if not child:\n"
            "    os.close(go); os.read(wait, 1); kept = socket.recv_fds(there, 1, 1); say(os.getpid())\n"
            "    os.read(wait, 1); os._exit(0)\n"
            "l = socket.create_server(('127.0.0.1', 7219)); c = socket.create_connection(l.getsockname())\n"
            "a, _ = l.accept(); l.close(); say('ready'); sys.stdin.readline()\n"
            "socket.send_fds(here, [b'x'], [a.fileno()]); a.close(); say('sent'); sys.stdin.readline()\n"
            "os.write(go, b'x'); sys.stdin.readline(); os.close(go); os.waitpid(child, 0)"
        ),
        ready="ready",
    )
    with polling(cable.left) as source:
        assert one(source.snapshot(), local_port=7219).pid == sender.pid
        assert tell(sender) == "sent"
        assert one(source.snapshot(), local_port=7219).pid == sender.pid
        receiver = int(tell(sender))
        assert one(source.snapshot(), local_port=7219).pid == receiver != sender.pid
        let_go(sender)


def test_a_process_that_only_inherited_a_client_s_session_is_not_its_owner(cable: Any, start: Start) -> None:
    client = start(
        cable.left.code(
            "import socket, subprocess, sys\n"
            "l = socket.create_server(('127.0.0.1', 7213)); c = socket.create_connection(l.getsockname())\n"
            "waits = [sys.executable, '-c', 'input()']\n"
            "p = subprocess.Popen(waits, stdin=subprocess.PIPE, pass_fds=[c.fileno()])\n"
            "print('ready', flush=True); sys.stdin.readline(); p.communicate()"
        ),
        ready="ready",
    )
    with polling(cable.left) as source:
        assert one(source.snapshot(), remote_port=7213).pid == client.pid
        let_go(client)


def test_sessions_older_than_the_source_have_no_known_opener(cable: Any, start: Start) -> None:
    start(
        cable.left.code(SERVER.format(address="127.0.0.1", port=7214, family="socket.AF_INET")), ready="ready"
    )
    client = start(cable.left.code(CLIENT.format(address="127.0.0.1", port=7214)))
    tell(client, "11")
    with polling(cable.left) as source:
        told = source.snapshot()
        asked, answered = one(told, remote_port=7214), one(told, local_port=7214)
        assert (asked.opener, asked.pid) == (Opener.UNKNOWN, client.pid)
        assert (answered.opener, answered.service_port) == (Opener.UNKNOWN, 7214)
        let_go(client)
        assert {event.key for event in until(lambda: decode_run(source.drain()), count=2)} == {
            asked.key,
            answered.key,
        }
        assert source.counters().missed == 0


def test_sessions_between_two_polls_are_missed_and_counted_exactly(cable: Any) -> None:
    with polling(cable.left) as source:
        cable.left.run_app("storm.py", SHORT)
        assert gone(source) == []
        assert source.counters() == ((0,), (0,), 2 * SHORT)


def test_found_and_missed_are_all_there_were(cable: Any, start: Start) -> None:
    """Polled as fast as can be during a storm, so that some sessions are found: told + missed = all."""
    with polling(cable.left) as source:
        storm = start(cable.left.app("storm.py", 997))
        told: list[SessionEvent] = []
        while storm.poll() is None:
            told += decode_run(source.drain())
        told += gone(source)
        (seen,), _, missed = source.counters()
    assert seen == len(told)
    assert seen + missed == 2 * 997
    assert len({event.key for event in told}) == len(told) > 0
    assert {event.pid for event in told} <= {storm.pid, 0}


def test_an_attempt_that_nobody_answers_is_told_as_failed(cable: Any, start: Start) -> None:
    rule = "tcp dport 7215 drop"
    table = f"table inet deaf {{ chain in {{ type filter hook prerouting priority 0; {rule}; }}; }}"
    cable.right.run(cable.right.argv("nft", table))
    try:
        with polling(cable.left) as source:
            code = f"import socket; socket.create_connection(('{cable.right.v4}', 7215))"
            waiting = start(cable.left.code(code))
            (trying,) = until(
                lambda: [e for e in source.snapshot() if e.remote_port == 7215 and e.retransmitted]
            )
            assert (trying.state, trying.established, trying.pid) == (TcpState.SYN_SENT, 0, waiting.pid)
            waiting.kill()
            (failed,) = until(lambda: decode_run(source.drain()))
    finally:
        cable.right.run(cable.right.argv("nft", "delete", "table", "inet", "deaf"))
    assert (failed.key, failed.established, failed.closed) == (trying.key, 0, True)


def test_a_session_that_its_process_left_keeps_its_owner(cable: Any, start: Start) -> None:
    """What is sent after close() is the process's still; its descriptor is gone."""
    server = start(
        cable.right.code(
            "import socket, sys\n"
            "l = socket.socket(); l.setsockopt(1, 8, 4096); l.bind(('192.0.2.2', 7216)); l.listen()\n"
            "print('ready', flush=True); a, _ = l.accept(); sys.stdin.readline()\n"
        ),
        ready="ready",
    )
    with polling(cable.left) as source:
        leaving = start(
            cable.left.code(
                "import socket, sys\n"
                "c = socket.create_connection(('192.0.2.2', 7216)); c.setblocking(False)\n"
                "while True:\n"
                "    try: c.send(bytes(65536))\n"
                "    except BlockingIOError: break\n"
                "print('full', flush=True); sys.stdin.readline()"
            ),
            ready="full",
        )
        assert one(source.snapshot(), remote_port=7216).pid == leaving.pid
        let_go(leaving)
        left = one(source.snapshot(), remote_port=7216)
        assert left.state == TcpState.FIN_WAIT1
        assert left.pid == leaving.pid
        facts = source.owner(left.pid, left.owner_started_ns)
        assert facts is not None
        assert facts.executable == str(Path(sys.executable).resolve())
        let_go(server)


LOOK = (
    "import socket\n"
    "from agent.passive.sockdiag import open_sockdiag\n"
    "with open_sockdiag(netns=None, every_s=0) as source:\n"
    "    own = socket.create_connection(('127.0.0.1', 7217)); port = own.getsockname()[1]\n"
    "    for e in source.snapshot():\n"
    "        if e.remote_port == 7217:\n"
    "            print('own' if e.local_port == port else 'other', e.pid, e.bytes_acked)\n"
)
"""Prints owner and bytes of the sessions with the server at port 7217, its own one among them."""


@pytest.mark.parametrize(
    ("capabilities", "knows_others"),
    [
        ("-all", False),
        ("-all,+sys_ptrace", False),
        ("-all,+dac_read_search", False),
        ("-all,+sys_ptrace,+dac_read_search", True),
    ],
)
def test_the_list_is_for_everyone_but_whose_others_sessions_are_takes_two_capabilities(
    cable: Any, start: Start, capabilities: str, knows_others: bool
) -> None:
    start(
        cable.left.code(SERVER.format(address="127.0.0.1", port=7217, family="socket.AF_INET")), ready="ready"
    )
    root = start(cable.left.code(CLIENT.format(address="127.0.0.1", port=7217)))
    tell(root, "1009")
    become = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups".split()
    kept = (f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}")
    looking = subprocess.Popen(
        cable.left.argv(*become, *kept, sys.executable, "-c", LOOK),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    printed, logged = looking.communicate(timeout=LIMIT_S)
    lines = {line.split()[0]: line.split()[1:] for line in printed.splitlines()}
    assert lines["own"] == [str(looking.pid), "1"], logged
    assert lines["other"] == [str(root.pid if knows_others else 0), str(1 + 1009)]
    assert ("CAP_SYS_PTRACE" in logged) == (not knows_others)
