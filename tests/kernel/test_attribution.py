"""Whose session it was, and who opened it."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.passive.sessions import FlowTable
from agent.passive.watch import watch
from analytics.measurement import Direction, Flow
from ebpf.events import Opener, OwnerEvidence, SessionEvent
from ebpf.load import open_monitor

pytestmark = pytest.mark.kernel

Start = Callable[..., subprocess.Popen[str]]
Collect = Callable[..., list[SessionEvent]]
APPS = Path(__file__).parent / "apps"
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


def tell(process: subprocess.Popen[str], line: str = "go") -> str:
    """Send a line, read one."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return next_line(process)


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_curl_and_http_server(
    cable: Any, cache: Path, start: Start, collect: Collect, tmp_path: Path
) -> None:
    (tmp_path / "ct.dcm").write_bytes(os.urandom(FILE_SIZE))
    web = start(
        cable.right.python("-u", "-m", "http.server", "--directory", tmp_path, "7080"),
        ready="Serving HTTP on 0.0.0.0 port 7080 (http://0.0.0.0:7080/) ...",
    )
    with open_monitor(netns=None, cache=cache) as monitor:
        curl = start(cable.left.argv("curl", "-so", "/dev/null", f"http://{cable.right.v4}:7080/ct.dcm"))
        curl.wait(10)
        client, server = ends(collect(monitor, 2, port=7080), 7080)

    assert (client.process, client.pid, client.opener) == ("curl", curl.pid, Opener.LOCAL)
    assert (server.process, server.pid, server.opener) == ("python", web.pid, Opener.REMOTE)
    assert client.owner_evidence == OwnerEvidence.CONNECT
    assert server.owner_evidence == OwnerEvidence.IO
    assert FILE_SIZE < client.payload_received == server.payload_acked


def test_both_ends_on_loopback(
    cable: Any, cache: Path, start: Start, collect: Collect, tmp_path: Path
) -> None:
    """Where the task that runs when a segment comes in is the peer."""
    web = start(
        cable.left.python("-u", "-m", "http.server", "--directory", tmp_path, "7081"),
        ready="Serving HTTP on 0.0.0.0 port 7081 (http://0.0.0.0:7081/) ...",
    )
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        curl = start(cable.left.argv("curl", "-so", "/dev/null", "http://127.0.0.1:7081/"))
        curl.wait(10)
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


def test_session_older_than_the_agent(cable: Any, cache: Path, start: Start, collect: Collect) -> None:
    server = start(cable.left.app("fork_server.py", "7083", "1"), ready="ready")
    client = start(cable.left.code(CONVERSE.format(port=7083)), ready="connected")
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        assert tell(client) == "b'answer'"
        child = int(next_line(server))
        asked, answered = ends(collect(monitor, 2, port=7083), 7083)

    assert (asked.process, asked.pid, asked.opener) == ("python", client.pid, Opener.UNKNOWN)
    assert (answered.process, answered.pid, answered.opener) == ("python", child, Opener.UNKNOWN)


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
        assert late.stdin is not None
        late.stdin.write("go\n")
        late.stdin.flush()
        assert tell(client) == "b'late'"
        server = ends(collect(monitor, 2, port=7086), 7086)[1]

    assert (server.pid, server.opener, server.owner_evidence) == (
        late.pid,
        Opener.UNKNOWN,
        OwnerEvidence.IO,
    )


def test_a_session_reset_before_anybody_used_it(
    cable: Any, cache: Path, start: Start, collect: Collect
) -> None:
    """Nobody accepted it, so it is its listener's."""
    server = start(
        cable.left.code(
            "import socket, sys; l = socket.create_server(('127.0.0.1', 7085)); print('ready', flush=True)\n"
            "sys.stdin.read()",
        ),
        ready="ready",
    )
    abort = (
        "import socket, struct; c = socket.create_connection(('127.0.0.1', 7085))\n"
        "c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); c.close()"
    )
    flows = FlowTable(agent="pacs", tenant="default")
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        flows.take_open(monitor.snapshot())
        cable.left.run_code(abort)
        events = collect(monitor, 2, port=7085)
    flows.take_closed(events)

    assert ends(events, 7085)[1].owner_evidence == OwnerEvidence.NONE
    (row,) = (row for row in flows.flows(window_us=0, window_length_us=1) if row.direction == Direction.IN)
    assert (row.process, row.pid, row.service_port) == ("python", server.pid, 7085)


def test_a_thread_with_a_name_of_its_own(cable: Any, cache: Path, collect: Collect) -> None:
    """The process is named, not the thread."""
    threaded = (
        "import ctypes, runpy, sys, threading\n"
        "def work():\n"
        "    ctypes.CDLL(None).prctl(15, b'HTTP-7', 0, 0, 0)\n"
        f"    sys.argv = ['storm', '1']; runpy.run_path({str(APPS / 'storm.py')!r})\n"
        "t = threading.Thread(target=work); t.start(); t.join()"
    )
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        cable.left.run_code(threaded)
        events = collect(monitor, 2)
    assert [event.process for event in events] == ["python", "python"]


def test_a_fetch_becomes_a_flow_at_each_end(cable: Any, cache: Path, start: Start, tmp_path: Path) -> None:
    (tmp_path / "ct.dcm").write_bytes(os.urandom(FILE_SIZE))
    start(
        cable.right.python("-u", "-m", "http.server", "--directory", tmp_path, "7084"),
        ready="Serving HTTP on 0.0.0.0 port 7084 (http://0.0.0.0:7084/) ...",
    )
    flows: list[Flow] = []

    async def fetch_while_watching() -> None:
        handed_over = asyncio.Event()

        def take(rows: list[Flow]) -> None:
            flows.extend(row for row in rows if row.service_port == 7084)
            if sum(row.closed for row in flows) >= 2 * 3:
                handed_over.set()

        with open_monitor(netns=None, cache=cache) as monitor:
            watching = asyncio.create_task(
                watch(monitor, agent="pacs", tenant="default", sink=take, window_s=1)
            )
            for _ in range(3):
                url = f"http://{cable.right.v4}:7084/ct.dcm"
                fetch = await asyncio.create_subprocess_exec(
                    *cable.left.argv("curl", "-so", "/dev/null", url)
                )
                assert await fetch.wait() == 0
            await asyncio.wait_for(handed_over.wait(), 5)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(fetch_while_watching())

    out = [row for row in flows if row.direction == Direction.OUT]
    into = [row for row in flows if row.direction == Direction.IN]
    assert {row.process for row in out} == {"curl"}
    assert {row.process for row in into} == {"python"}
    assert sum(row.opened for row in out) == sum(row.closed for row in out) == 3
    assert sum(row.bytes_received for row in out) == sum(row.bytes_sent for row in into) > 3 * FILE_SIZE
    assert all(row.srtt_us and row.connect_us and row.rtt_min_us for row in out)
    assert {row.remote_address for row in out} == {cable.right.v4}
