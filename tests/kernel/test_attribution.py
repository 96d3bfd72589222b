"""Whose session it was, and who opened it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

import pytest

from ebpf.events import Opener, OwnerEvidence, SessionEvent
from ebpf.load import Monitor, open_monitor

pytestmark = pytest.mark.kernel

Start = Callable[..., subprocess.Popen[str]]
Collect = Callable[..., list[SessionEvent]]
Built = Callable[[str], Path]
FILE_SIZE = 200_003

CONVERSE = (
    "import socket, sys\n"
    "c = socket.create_connection(('127.0.0.1', {port}))\n"
    "print('connected', flush=True)\n"
    "sys.stdin.readline()\n"
    "c.sendall(b'question'); print(c.recv(99), flush=True); c.close()\n"
)


def ends(events: list[SessionEvent], port: int) -> tuple[SessionEvent, SessionEvent]:
    """Pick the two ends of the one connection to ``port``."""
    (client,) = (event for event in events if event.remote_port == port)
    (server,) = (event for event in events if event.local_port == port)
    return client, server


@contextmanager
def watched(cable: Any, cache: Path) -> Iterator[tuple[Monitor, Monitor]]:
    """Watch each namespace by itself: what else goes on on this machine cannot fill the rings."""
    with (
        open_monitor(netns=cable.left.inode, cache=cache) as left,
        open_monitor(netns=cable.right.inode, cache=cache) as right,
    ):
        yield left, right


def tell(process: subprocess.Popen[str], line: str = "go") -> str:
    """Send a line, read one."""
    say(process, line)
    return next_line(process)


def say(process: subprocess.Popen[str], line: str = "go") -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def serve_files(namespace: Any, start: Start, folder: Path, port: int) -> subprocess.Popen[str]:
    return start(
        namespace.python("-u", "-m", "http.server", "--directory", folder, port),
        ready=f"Serving HTTP on 0.0.0.0 port {port} (http://0.0.0.0:{port}/) ...",
    )


def test_curl_and_http_server(
    cable: Any, cache: Path, start: Start, collect: Collect, tmp_path: Path
) -> None:
    (tmp_path / "ct.dcm").write_bytes(os.urandom(FILE_SIZE))
    web = serve_files(cable.right, start, tmp_path, 7080)
    with watched(cable, cache) as (left, right):
        curl = start(cable.left.argv("curl", "-so", "/dev/null", f"http://{cable.right.v4}:7080/ct.dcm"))
        curl.wait()
        (client,), (server,) = collect(left, 1, port=7080), collect(right, 1, port=7080)

    assert (client.process, client.pid, client.opener) == ("curl", curl.pid, Opener.LOCAL)
    assert (server.process, server.pid, server.opener) == ("python", web.pid, Opener.REMOTE)
    assert client.owner_evidence == OwnerEvidence.CONNECT
    assert server.owner_evidence == OwnerEvidence.IO
    assert client.service_port == server.service_port == 7080
    assert FILE_SIZE < client.payload_received == server.payload_acked


def test_both_ends_on_loopback(
    cable: Any, cache: Path, start: Start, collect: Collect, tmp_path: Path
) -> None:
    """Where the task that runs when a segment comes in is the peer."""
    web = serve_files(cable.left, start, tmp_path, 7081)
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        curl = start(cable.left.argv("curl", "-so", "/dev/null", "http://127.0.0.1:7081/"))
        curl.wait()
        client, server = ends(collect(monitor, 2, port=7081), 7081)

    assert (client.process, client.pid) == ("curl", curl.pid)
    assert (server.process, server.pid) == ("python", web.pid)


def test_server_that_forks(cable: Any, cache: Path, start: Start, collect: Collect) -> None:
    server = start(cable.left.app("fork_server.py", "7082", "1"), ready="ready")
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        client = start(cable.left.code(CONVERSE.format(port=7082)), ready="connected")
        assert tell(client) == "b'answer'"
        child = int(next_line(server))
        event = ends(collect(monitor, 2, port=7082), 7082)[1]

    assert (event.process, event.pid) == ("python", child)
    assert event.owner_evidence == OwnerEvidence.IO


@pytest.mark.parametrize("read_before", [0, 3])
def test_server_that_hands_the_socket_over(
    read_before: int, cable: Any, cache: Path, start: Start, collect: Collect
) -> None:
    """To a process that did not accept it (SCM_RIGHTS): who answers owns it, whoever read first."""
    server = start(cable.left.app("hand_over.py", "7087", read_before), ready="ready")
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        client = start(cable.left.code(CONVERSE.format(port=7087)), ready="connected")
        assert tell(client) == "b'answer'"
        worker = int(next_line(server))
        asked, answered = ends(collect(monitor, 2, port=7087), 7087)

    assert (asked.pid, answered.pid, answered.owner_evidence) == (client.pid, worker, OwnerEvidence.IO)
    assert worker != server.pid


def test_session_older_than_the_agent(cable: Any, cache: Path, start: Start, collect: Collect) -> None:
    server = start(cable.left.app("fork_server.py", "7083", "1"), ready="ready")
    client = start(cable.left.code(CONVERSE.format(port=7083)), ready="connected")
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        assert tell(client) == "b'answer'"
        child = int(next_line(server))
        asked, answered = ends(collect(monitor, 2, port=7083), 7083)

    assert (asked.process, asked.pid, asked.opener) == ("python", client.pid, Opener.UNKNOWN)
    assert (answered.process, answered.pid, answered.opener) == ("python", child, Opener.UNKNOWN)


def test_an_older_session_that_does_nothing_more(
    cable: Any, cache: Path, start: Start, collect: Collect
) -> None:
    """Its owner is who holds it."""
    server = start(
        cable.left.code(
            "import socket, sys; l = socket.create_server(('127.0.0.1', 7088)); print('ready', flush=True)\n"
            "a, _ = l.accept(); print('accepted', flush=True); sys.stdin.readline(); a.close()"
        ),
        ready="ready",
    )
    client = start(cable.left.code(CONVERSE.format(port=7088)), ready="connected")
    assert next_line(server) == "accepted"
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        held = [event for event in monitor.snapshot() if event.local_port == 7088 and event.remote_port]
    assert [event.owner_evidence for event in held] == [OwnerEvidence.FILE_TABLE]
    assert (held[0].pid, held[0].process, held[0].established) == (server.pid, "python", 1)
    assert client.poll() is None


def test_a_session_that_waited_to_be_accepted_when_the_agent_came(
    cable: Any, cache: Path, start: Start, collect: Collect
) -> None:
    """No process held it then: its owner is told by its first use."""
    late = start(
        cable.left.code(
            "import socket, sys; l = socket.create_server(('127.0.0.1', 7086)); print('ready', flush=True)\n"
            "sys.stdin.readline(); a, _ = l.accept(); a.recv(99); a.sendall(b'late'); a.close()",
        ),
        ready="ready",
    )
    client = start(cable.left.code(CONVERSE.format(port=7086)), ready="connected")
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        say(late)
        assert tell(client) == "b'late'"
        server = ends(collect(monitor, 2, port=7086), 7086)[1]

    assert (server.pid, server.opener, server.owner_evidence) == (
        late.pid,
        Opener.UNKNOWN,
        OwnerEvidence.IO,
    )


def test_a_thread_with_a_name_of_its_own(cable: Any, cache: Path, start: Start, collect: Collect) -> None:
    """The process is named, not the thread, whose number is told beside it."""
    server = start(cable.left.app("fork_server.py", "7089", "1"), ready="ready")
    threaded = (
        "import ctypes, os, socket, threading\n"
        "def work():\n"
        "    ctypes.CDLL(None).prctl(15, b'HTTP-7', 0, 0, 0)\n"
        "    c = socket.create_connection(('127.0.0.1', 7089))\n"
        "    c.sendall(b'question'); c.recv(99); c.close()\n"
        "    print(os.getpid(), threading.get_native_id())\n"
        "t = threading.Thread(target=work); t.start(); t.join()"
    )
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        pid, thread = map(int, cable.left.run_code(threaded).split())
        assert next_line(server)
        client = ends(collect(monitor, 2, port=7089), 7089)[0]
    assert (client.process, client.pid, client.thread) == ("python", pid, thread)
    assert thread != pid


@pytest.mark.parametrize("mode", ["inline", "worker", "sqpoll"])
def test_an_io_uring_client(
    mode: str, *, cable: Any, cache: Path, start: Start, collect: Collect, built: Built
) -> None:
    """Whose work another task of the kernel may do: its process is named all the same."""
    server = start(cable.left.app("fork_server.py", "7090", "1"), ready="ready")
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        uring = start(cable.left.argv(built("uring"), mode, "127.0.0.1", 7090), ready="answer")
        assert uring.wait() == 0
        child = int(next_line(server))
        client, answered = ends(collect(monitor, 2, port=7090), 7090)
    assert (client.process, client.pid, client.opener) == ("uring", uring.pid, Opener.LOCAL)
    assert client.owner_evidence == OwnerEvidence.CONNECT
    assert (client.payload_acked, client.payload_received) == (len("question"), len("answer"))
    assert (client.thread == uring.pid) == (mode == "inline")
    assert answered.pid == child


FAST_SERVER = """
import socket as s
l = s.socket(); l.setsockopt(s.IPPROTO_TCP, s.TCP_FASTOPEN, 16)
l.bind(('', 7091)); l.listen(); print('ready', flush=True)
for _ in range(2):
    a, _ = l.accept(); a.recv(99); a.sendall(b'answer'); a.recv(1); a.close()
"""
FAST_CLIENT = """
import os, socket as s, sys
c = s.socket(); c.sendto(b'question', s.MSG_FASTOPEN, (sys.argv[1], 7091)); c.recv(99); c.close()
print(os.getpid())
"""


def test_tcp_fast_open(cable: Any, cache: Path, start: Start, collect: Collect) -> None:
    """The first connection gets the cookie, the second sends its question with the SYN."""
    for namespace in (cable.left, cable.right):
        namespace.run(namespace.argv("sysctl", "-wq", "net.ipv4.tcp_fastopen=3"))
    server = start(cable.right.code(FAST_SERVER), ready="ready")
    with watched(cable, cache) as (left, right):
        for fast in (0, 1):
            pid = int(cable.left.run([*cable.left.code(FAST_CLIENT), cable.right.v4]))
            (client,), (answered,) = collect(left, 1, port=7091), collect(right, 1, port=7091)
            assert (client.fast_open, answered.fast_open) == (fast, fast)
            assert (client.pid, client.opener, client.owner_evidence) == (
                pid,
                Opener.LOCAL,
                OwnerEvidence.CONNECT,
            )
            assert (answered.pid, answered.opener, answered.owner_evidence) == (
                server.pid,
                Opener.REMOTE,
                OwnerEvidence.IO,
            )
            assert (client.payload_acked, client.payload_received) == (len("question"), len("answer"))
            assert (answered.payload_acked, answered.payload_received) == (len("answer"), len("question"))


@pytest.mark.parametrize(
    ("listens", "family", "calls"),
    [("::", AF_INET, "127.0.0.1"), ("127.0.0.1", AF_INET6, "::ffff:127.0.0.1")],
)
def test_v4_mapped_addresses_are_ipv4(
    listens: str, family: int, calls: str, *, cable: Any, cache: Path, collect: Collect
) -> None:
    converse = (
        "import socket as s\n"
        f"l = s.create_server(('{listens}', 7092), family={AF_INET6 if ':' in listens else AF_INET},"
        f" dualstack_ipv6={':' in listens})\n"
        f"c = s.socket({int(family)}); c.connect(('{calls}', 7092)); a, _ = l.accept()\n"
        "c.sendall(b'x'); a.recv(1); c.close(); a.recv(1); a.close()"
    )
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        cable.left.run_code(converse)
        both = ends(collect(monitor, 2, port=7092), 7092)
    for event in both:
        assert (event.local_address, event.remote_address) == ("127.0.0.1", "127.0.0.1")
    assert AF_INET6 in {event.family for event in both}


def test_a_session_reset_before_anybody_used_it_has_no_owner(
    cable: Any, cache: Path, start: Start, collect: Collect
) -> None:
    """As the kernel tells it: the task that ran when the reset came is the peer."""
    abort = (
        "import socket, struct; l = socket.create_server(('127.0.0.1', 7093))\n"
        "c = socket.create_connection(('127.0.0.1', 7093))\n"
        "c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); c.close()"
    )
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        cable.left.run_code(abort)
        server = ends(collect(monitor, 2, port=7093), 7093)[1]
    assert (server.owner_evidence, server.pid, server.established) == (OwnerEvidence.NONE, 0, 1)
