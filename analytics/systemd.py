"""What a service tells systemd: that it is ready, that it is alive, what it is doing, that it stops.

The protocol is sd_notify(3)'s: datagrams of ``NAME=value`` to the socket in ``NOTIFY_SOCKET``. Without that
variable nothing is said and nothing is done. The watchdog is systemd's, too (``WatchdogSec=``): it ends and
begins again a service that has not said ``WATCHDOG=1`` for so long. Here it is said from the event loop, and
only while every task that must run is running: a loop that hangs, or one whose work has ended, is not alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from typing import Final, Self

log: Final = logging.getLogger("pathgrade.systemd")

PINGS_A_PERIOD: Final = 3
"""One that is late, and one more, must not be the end."""
MOST_STATUS: Final = 200


class Notifier:
    """The way to systemd, if there is one. What cannot be said is not missed: the watchdog sees to that."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address  # unix(7): abstract
        self.watchdog_s = watchdog_s
        """How long systemd waits for a sign of life; None: it does not."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, *, pid: int | None = None) -> Self:
        """Read ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` (sd_watchdog_enabled(3))."""
        address = environ.get("NOTIFY_SOCKET", "")
        told_us, whose = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        ours = whose in ("", str(os.getpid() if pid is None else pid))
        wanted = told_us.isdecimal() and int(told_us) > 0 and ours
        return cls(address if address[:1] in ("/", "@") else "", int(told_us) / 1e6 if wanted else None)

    def ready(self) -> None:
        """Say that the service does what it is there for."""
        self._say("READY=1")

    def alive(self) -> None:
        """Give a sign of life."""
        self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that it ends because it was told to."""
        self._say("STOPPING=1")

    def status(self, words: str) -> None:
        """Say in a line what it is doing; ``systemctl status`` shows it."""
        self._say("STATUS=" + " ".join(words.split())[:MOST_STATUS])

    def _say(self, line: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as way:
            way.setblocking(False)
            with contextlib.suppress(OSError):
                way.sendto(line.encode(), self._address)


class Signs:
    """Signs of life, as long as what must run does."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._told = ""
        self.tasks: Mapping[str, asyncio.Task[None]] = {}
        """What must run now, by name."""

    async def run(self) -> None:
        """Give them until cancelled. Returns at once where nobody waits for them."""
        if self._notifier.watchdog_s is None:
            return
        while True:
            self.look()
            await asyncio.sleep(self._notifier.watchdog_s / PINGS_A_PERIOD)

    def look(self) -> None:
        """Give one; or say, once, what has ended."""
        ended = ", ".join(sorted(name for name, task in self.tasks.items() if task.done()))
        if not ended:
            self._notifier.alive()
        elif ended != self._told:
            log.error("no more signs of life to systemd ended=%s", ended)
            self._notifier.status(f"ended: {ended}")
        self._told = ended
