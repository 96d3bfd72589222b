"""Passive capture is switched off on its own host: in a real agent, which gave root up before."""

import gzip
import signal
from pathlib import Path
from typing import Any

import pytest

from agent.local import SOCKET_NAME
from agent.local_switch import PASSIVE
from agent.outbox import unseal
from agent.privileges import DYNAMIC_UIDS
from analytics.batch import check_batch, unpack_rows
from analytics.measurement import Flow
from analytics.wire import LocalOff
from tests.kernel.test_privileges import (
    COMMAND,
    Start,
    configured,
    enrolled_before,
    place,
    started,
    threads_of,
    until,
)

pytestmark = pytest.mark.kernel

__all__ = ["place"]
BEFORE, WHILE_OFF, AFTER = 7_181, 7_182, 7_183
SESSIONS = 53


def sessions(cable: Any, port: int) -> None:
    """Open and close sessions of a process with itself."""
    cable.left.run_code(
        f"import socket; l = socket.create_server(('127.0.0.1', {port}))\n"
        f"for _ in range({SESSIONS}):\n"
        f"    c = socket.create_connection(('127.0.0.1', {port})); a, _ = l.accept(); c.close(); a.close()"
    )


def in_kernel(pid: int) -> int:
    """Count the programs, links and tables that a process holds in the kernel."""
    files = Path(f"/proc/{pid}/fd").iterdir()
    return sum("bpf" in str(link) for link in map(link_of, files))


def link_of(file: Path) -> str:
    try:
        return str(file.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""


def flows_in(outbox: Path) -> list[Flow]:
    batches = [check_batch(gzip.decompress(unseal(path.read_bytes()))) for path in outbox.glob("*.batch")]
    return [row for batch in batches for row in unpack_rows("flows", batch.tables["flows"])]


def test_nothing_is_seen_while_it_is_off_and_nothing_from_before_is_lost(
    cable: Any, cache: Path, place: Path, start: Start
) -> None:
    data = place / "data"
    enrolled_before(data)
    config = configured(place, cache, passive="ebpf")
    agent = start(cable.left.argv(*COMMAND, "agent", "run", "--config", str(config)))
    until((data / SOCKET_NAME).exists, "it does not watch")
    pid = agent.pid
    assert in_kernel(pid) > 0
    sessions(cable, BEFORE)
    PASSIVE.off(data, LocalOff(since_us=1, by="test"))
    until(lambda: not in_kernel(pid) and not (data / SOCKET_NAME).exists(), "it is still in the kernel")
    sessions(cable, WHILE_OFF)
    PASSIVE.on(data)
    until((data / SOCKET_NAME).exists, "it does not watch again")
    assert in_kernel(pid) > 0
    sessions(cable, AFTER)
    agent.send_signal(signal.SIGTERM)
    agent.wait()
    closed = {BEFORE: 0, WHILE_OFF: 0, AFTER: 0}
    for row in flows_in(data / "outbox"):
        if row.service_port in closed:
            closed[row.service_port] += row.closed
    assert closed == {BEFORE: 2 * SESSIONS, WHILE_OFF: 0, AFTER: 2 * SESSIONS}


def test_an_agent_that_starts_while_it_is_off_puts_nothing_into_the_kernel(
    cable: Any, cache: Path, place: Path, start: Start
) -> None:
    data = place / "data"
    enrolled_before(data)
    PASSIVE.off(data, LocalOff(since_us=1, by="test"))
    config = configured(place, cache, passive="ebpf")
    pid = started(
        start, cable.left.argv(*COMMAND, "agent", "run", "--config", str(config)), data / "identity.pem"
    )
    until(lambda: threads_of(pid)[0].uids[0] in DYNAMIC_UIDS, "root is not given up")  # all is loaded by then
    assert in_kernel(pid) == 0
    PASSIVE.on(data)  # it kept the capabilities for that
    until((data / SOCKET_NAME).exists, "it does not watch")
    assert in_kernel(pid) > 0
