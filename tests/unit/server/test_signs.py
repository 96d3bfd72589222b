"""The server's signs of life to systemd: given while all runs that must, and only then."""

import asyncio
import socket
from pathlib import Path

from analytics.systemd import Notifier, Signs
from server.app import serving
from server.settings import Settings


def test_signs_are_given_while_everything_runs_that_must(settings: Settings, tmp_path: Path) -> None:
    async def whole() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / "notify"))
            systemd.setblocking(False)
            signs = Signs(Notifier(systemd.getsockname(), watchdog_s=60))
            async with serving(settings, signs):
                heard = await asyncio.get_running_loop().sock_recv(systemd, 100)
                assert heard == b"WATCHDOG=1"
                assert {"agents' listener", "report's listener", "seal", "accounts"} <= set(signs.tasks)
                assert not any(task.done() for task in signs.tasks.values())
                signs.tasks["file days"].cancel()
                await asyncio.wait([signs.tasks["file days"]])
                signs.look()
                assert systemd.recv(100) == b"STATUS=ended: file days"

    asyncio.run(whole())
