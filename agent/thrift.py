"""Keeps the agent within what it may take of its host: looks, and does what ``agent.limits`` decides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from agent.limits import LOOK_S, Governor, Shed, Use
from agent.mesh.budget import Budget
from analytics.memory import give_back

log: Final = logging.getLogger("pathgrade.agent.limits")

HELD: Final = "this agent is over its own limits"
"""Why it follows no order meanwhile; the peer and the server are told so."""


class Testing(Protocol):
    """What is needed of ``agent.orders.Orders``."""

    def hold(self, why: str) -> None:
        """Follow no order for this reason; empty: follow them again."""


class Watching(Protocol):
    """What is needed of ``agent.passive.watch.Watch``."""

    def spare(self, on: bool) -> None:
        """Tell less."""


class Thrift:
    """Looks every ``LOOK_S``, over all sessions with the server: none of them begins anything anew."""

    def __init__(self, governor: Governor, *, trains: Budget, used: Callable[[], Use]) -> None:
        self.governor = governor
        self._trains = trains
        self._used = used
        self._tests: Testing | None = None
        self._watch: Watching | None = None
        self._changed: Callable[[], None] = lambda: None

    def serve(self, tests: Testing, changed: Callable[[], None]) -> None:
        """Hold the tests of another session from now on. ``changed`` is called after each step."""
        self._tests, self._changed, self._watch = tests, changed, None
        self._act()

    def watched(self, watch: Watching) -> None:
        """Let this session's passive capture tell less from now on, where it is to."""
        self._watch = watch
        self._act()

    async def run(self, *, after: Callable[[], Awaitable[None]]) -> None:
        """Look until cancelled, and call ``after`` after each look."""
        while True:
            self.look()
            await after()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Look once; where a step is due, take it and say so."""
        before = self.governor.shed
        if not self.governor.look(self._used()):
            return
        self._act()
        now = self.governor.shed
        if now > before:
            log.warning("over a limit of its own, leaves out %s why=%r", now.words, self.governor.why)
            give_back()
        else:
            log.info("within its limits again, takes up %s", before.words)
        self._changed()

    def _act(self) -> None:
        now = self.governor.shed
        self._trains.held = now >= Shed.TRAINS
        if self._tests is not None:
            self._tests.hold(f"{HELD}: {self.governor.why}" if now >= Shed.TESTS else "")
        if self._watch is not None:
            self._watch.spare(now >= Shed.DETAIL)
