"""Telling the server how the agent is: every half minute, and at once where something was switched."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from agent import health
from agent.errors import ServerSilentError
from analytics.wire import FromAgent, Health

log: Final = logging.getLogger("pathgrade.agent")


class Reporting:
    """Takes stock again and again, and says it."""

    def __init__(self, stock: Callable[[], Health], say: Callable[[FromAgent], Awaitable[None]]) -> None:
        self._stock = stock
        self._say = say
        self._wanted = asyncio.Event()

    def soon(self) -> None:
        """Say it now, as something is another."""
        self._wanted.set()

    async def run(self) -> None:
        """Say it until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(health.EVERY_S):
                    await self._wanted.wait()
            self._wanted.clear()
            now = self._stock()
            log.info("%s", health.line(now))
            with contextlib.suppress(ServerSilentError):  # the next one says as much
                await self._say(now)
