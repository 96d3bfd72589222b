"""What the agent makes of sessions that the kernel told: whose row they are in."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.passive.watch import Watch
from analytics.measurement import Direction, Flow
from ebpf.load import Monitor, open_monitor

pytestmark = pytest.mark.kernel

Start = Callable[..., subprocess.Popen[str]]
FILE_SIZE = 200_003


async def flows_of(port: int, closes: int, monitor: Monitor, act: Callable[[], object]) -> list[Flow]:
    """Watch while ``act`` runs, and until that many sessions of the service closed; give its rows."""
    flows: list[Flow] = []
    watch = Watch(monitor, agent="pacs", tenant="default", sink=flows.extend, window_s=3600)
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(0)  # it looks at what was there before
    await asyncio.to_thread(act)
    while closed_of(port, watch) < closes:  # noqa: ASYNC110  # the kernel tells nobody: somebody must look
        await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.wait([watching])
    return [row for row in flows if row.service_port == port]


def closed_of(port: int, watch: Watch) -> int:
    return sum(one.service_port == port and not one.open for one in watch.sessions(None, None, 10_000))


def test_a_session_reset_before_anybody_used_it(cable: Any, cache: Path, start: Start) -> None:
    """Nobody accepted it: it is taken for its listener's, and counted as a guess."""
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
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        flows = asyncio.run(flows_of(7085, 2, monitor, lambda: cable.left.run_code(abort)))

    (row,) = (row for row in flows if row.direction == Direction.IN)
    assert (row.process, row.pid, row.service_port) == ("python", server.pid, 7085)
    assert (row.closed, row.guessed, row.resets_received, row.failed) == (1, 1, 1, 0)


def test_refused_connects_are_failures(cable: Any, cache: Path) -> None:
    refused = "import socket\nfor _ in range(3): socket.socket().connect_ex(('127.0.0.1', 7094))"
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        (row,) = asyncio.run(flows_of(7094, 3, monitor, lambda: cable.left.run_code(refused)))
    assert (row.process, row.direction, row.service_port) == ("python", Direction.OUT, 7094)
    assert (row.failed, row.opened, row.closed, row.guessed) == (3, 0, 0, 0)


def test_a_fetch_becomes_a_flow_at_each_end(cable: Any, cache: Path, start: Start, tmp_path: Path) -> None:
    (tmp_path / "ct.dcm").write_bytes(os.urandom(FILE_SIZE))
    start(
        cable.right.python("-u", "-m", "http.server", "--directory", tmp_path, 7084),
        ready="Serving HTTP on 0.0.0.0 port 7084 (http://0.0.0.0:7084/) ...",
    )
    fetch = cable.left.argv("curl", "-so", "/dev/null", f"http://{cable.right.v4}:7084/ct.dcm")
    with open_monitor(netns=None, cache=cache) as monitor:
        flows = asyncio.run(flows_of(7084, 6, monitor, lambda: [cable.left.run(fetch) for _ in range(3)]))

    # One row at each end: three processes of one program are one owner.
    out, into = sorted(flows, key=lambda row: row.direction != Direction.OUT)
    assert (out.direction, out.process, out.remote_address) == (Direction.OUT, "curl", cable.right.v4)
    assert (into.direction, into.process, into.remote_address) == (Direction.IN, "python", cable.left.v4)
    assert (out.opened, out.closed, out.guessed, out.failed) == (3, 3, 0, 0)
    assert out.bytes_received == into.bytes_sent > 3 * FILE_SIZE
    assert out.srtt_us
    assert out.rtt_min_us
    assert out.connect_us
    assert out.executable == str(Path(shutil.which("curl") or "").resolve())
