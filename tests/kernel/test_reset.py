"""Who ended a session with a reset, seen at both of its ends."""

import errno
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ebpf.events import Reset, SessionEvent, TcpState
from ebpf.load import open_monitor

pytestmark = pytest.mark.kernel

Start = Callable[..., subprocess.Popen[str]]
Collect = Callable[..., list[SessionEvent]]
PORT = 7300

BOTH = """
import socket, struct, sys
def read():
    try: return s.recv(9)
    except ConnectionResetError: return b''
def abort():
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()
def end():
    s.shutdown(socket.SHUT_WR)
"""
SERVER = BOTH + f"l = socket.create_server(('', {PORT})); print('ready', flush=True); s, _ = l.accept()\n"
CLIENT = BOTH + f"s = socket.create_connection((sys.argv[1], {PORT})); s.settimeout(10)\n"
UNREAD = "s.recv(1, socket.MSG_PEEK)"
ASK = "s.sendall(b'question')"


class Case(NamedTuple):
    server_does: str
    client_does: str
    at_server: Reset
    at_client: Reset


CASES = {
    "nobody": Case("read(); end(); read()", f"{ASK}; end(); read()", Reset.NONE, Reset.NONE),
    "the client aborts": Case("read(); read()", f"{ASK}; abort()", Reset.RECEIVED, Reset.SENT),
    "the server aborts": Case("read(); abort()", f"{ASK}; read()", Reset.SENT, Reset.RECEIVED),
    "the server closes with unread data": Case(
        f"{UNREAD}; s.close()", f"{ASK}; read()", Reset.SENT, Reset.RECEIVED
    ),
    "the client aborts after the server's end": Case(
        "end(); read()", "read(); abort()", Reset.RECEIVED, Reset.SENT
    ),
    "the client aborts after its own end": Case(
        "read(); read(); s.sendall(b'answer'); sys.stdin.read()",
        f"{ASK}; end(); {UNREAD}; abort()",
        Reset.RECEIVED,
        Reset.SENT,
    ),
    "the client closes with unread data after its own end": Case(
        "read(); read(); s.sendall(b'answer'); sys.stdin.read()",
        f"{ASK}; end(); {UNREAD}; s.close()",
        Reset.RECEIVED,
        Reset.SENT,
    ),
    # What answers then is no socket any more, but what is left of one (TIME_WAIT).
    "the client sends after the server's close": Case(
        "s.close(); sys.stdin.read()", f"read(); {ASK}; read()", Reset.NONE, Reset.RECEIVED
    ),
}


def ends(events: list[SessionEvent]) -> tuple[SessionEvent, SessionEvent]:
    (server,) = (event for event in events if event.local_port == PORT)
    (client,) = (event for event in events if event.remote_port == PORT)
    return server, client


@pytest.mark.parametrize("who", CASES)
def test_a_reset_has_a_sender_and_a_receiver(
    who: str, cable: Any, cache: Path, start: Start, collect: Collect
) -> None:
    case = CASES[who]
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        start(cable.left.code(SERVER + case.server_does), ready="ready")
        cable.left.run([*cable.left.code(CLIENT + case.client_does), "127.0.0.1"])
        server, client = ends(collect(monitor, 2, port=PORT))
    assert (Reset(server.reset), Reset(client.reset)) == (case.at_server, case.at_client)
    assert server.established == client.established == 1


@pytest.mark.parametrize("is_read", [True, False])
def test_a_killed_process(is_read: bool, cable: Any, cache: Path, start: Start, collect: Collect) -> None:
    """The kernel closes for it: with a reset, where data was waiting that nobody will read."""
    waits = f"{'read()' if is_read else UNREAD}; print('here', flush=True); sys.stdin.read()"
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        server = start(cable.left.code(SERVER + waits), ready="ready")
        client = start([*cable.left.code(CLIENT + f"{ASK}; read()"), "127.0.0.1"])
        assert server.stdout is not None
        assert server.stdout.readline() == "here\n"
        server.send_signal(signal.SIGKILL)
        client.wait()
        told = ends(collect(monitor, 2, port=PORT))
    resets = [Reset(event.reset) for event in told]
    assert resets == ([Reset.NONE, Reset.NONE] if is_read else [Reset.SENT, Reset.RECEIVED])
    assert told[0].pid == server.pid


def test_a_refused_connect(cable: Any, cache: Path, collect: Collect) -> None:
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        cable.left.run_code(f"import socket; socket.socket().connect_ex(('127.0.0.1', {PORT}))")
        (event,) = collect(monitor, 1, port=PORT, established=0)
    assert (Reset(event.reset), event.error) == (Reset.RECEIVED, errno.ECONNREFUSED)
    assert (event.established, event.old_state, event.process) == (0, TcpState.SYN_SENT, "python")


@contextmanager
def cut(namespace: Any) -> Iterator[None]:
    """Let nothing into a namespace."""
    table = "table inet cut { chain in { type filter hook prerouting priority 0; policy drop; }; }"
    namespace.run(namespace.argv("nft", table))
    yield
    namespace.run(namespace.argv("nft", "delete", "table", "inet", "cut"))


def test_a_time_out_is_no_reset(cable: Any, cache: Path, start: Start, collect: Collect) -> None:
    start(cable.right.code(f"{SERVER}read(); print(flush=True); sys.stdin.read()"), ready="ready")
    gives_up = (
        f"{ASK}; print('sent', flush=True); sys.stdin.readline()\n"
        "s.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300); s.sendall(b'more')\n"
        "try: s.recv(9)\n"
        "except TimeoutError as error: sys.exit(error.errno)"
    )
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        client = start([*cable.left.code(CLIENT + gives_up), cable.right.v4], ready="sent")
        with cut(cable.right):
            client.communicate("go\n")
            (event,) = collect(monitor, 1, port=PORT)
    assert (Reset(event.reset), event.error) == (Reset.NONE, errno.ETIMEDOUT), client.returncode
    assert event.retransmitted > 0
