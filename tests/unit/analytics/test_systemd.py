"""What systemd is told, on a real socket; and when it is told nothing."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics.systemd import Notifier, Signs


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def told(systemd: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(systemd.recv(4096).decode())
        except BlockingIOError:
            return found


def test_it_is_told_in_the_words_of_sd_notify(systemd: socket.socket) -> None:
    notifier = Notifier(systemd.getsockname())
    notifier.ready()
    notifier.status("two\nlines" + "x" * 500)
    notifier.stopping()
    ready, status, stopping = told(systemd)
    assert (ready, stopping) == ("READY=1", "STOPPING=1")
    assert status.startswith("STATUS=two linesxxx")
    assert len(status) < 220


def test_an_abstract_address_is_one() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0pathgrade-test-notify")
        Notifier("@pathgrade-test-notify").ready()
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": "/run/x"}, None),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "60000000"}, 60.0),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 60.0),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "0"}, None),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_of_the_environment(environ: dict[str, str], watchdog_s: float | None) -> None:
    assert Notifier.from_environment(environ, pid=7).watchdog_s == watchdog_s


def test_without_systemd_nothing_is_said_and_nothing_breaks(tmp_path: Path) -> None:
    for address in ("", str(tmp_path / "nobody")):
        Notifier(address).ready()
    asyncio.run(asyncio.wait_for(Signs(Notifier()).run(), 60))


def test_signs_end_with_a_task_that_must_run(systemd: socket.socket) -> None:
    async def life() -> None:
        signs = Signs(Notifier(systemd.getsockname(), 0.03))
        lives, ends = asyncio.Event(), asyncio.Event()
        signs.tasks = {
            "lives": asyncio.create_task(_until(lives)),
            "ends": asyncio.create_task(_until(ends)),
        }
        giving = asyncio.create_task(signs.run())
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(systemd, 100) == b"WATCHDOG=1"
        ends.set()
        await signs.tasks["ends"]
        told(systemd)
        signs.look()
        signs.look()
        assert told(systemd) == ["STATUS=ended: ends"]
        signs.tasks = {}  # between two lives
        signs.look()
        assert told(systemd) == ["WATCHDOG=1"]
        lives.set()
        giving.cancel()

    asyncio.run(life())


async def _until(event: asyncio.Event) -> None:
    await event.wait()
