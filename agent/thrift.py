"""Keeps the agent within what it may take of its host: looks, and does what ``agent.limits`` decides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from agent.limits import LOOK_S, Governor, Limits, Shed, Use
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
    """Looks every ``LOOK_S``. ``watch`` is set where passive capture runs."""

    def __init__(
        self,
        limits: Limits,
        *,
        trains: Budget,
        tests: Testing,
        used: Callable[[], Use],
        changed: Callable[[], None],
    ) -> None:
        self.governor = Governor(limits)
        self.watch: Watching | None = None
        self._trains = trains
        trains.held = False  # by the governor of an earlier life; this one looks anew
        self._tests = tests
        self._used = used
        self._changed = changed

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Look once; where a step is due, take it and say so."""
        before = self.governor.shed
        if not self.governor.look(self._used()):
            return
        now, why = self.governor.shed, self.governor.why
        self._trains.held = now >= Shed.TRAINS
        self._tests.hold(f"{HELD}: {why}" if now >= Shed.TESTS else "")
        if self.watch is not None:
            self.watch.spare(now >= Shed.DETAIL)
        if now > before:
            log.warning("over a limit of its own, leaves out %s why=%r", now.words, why)
            give_back()
        else:
            log.info("within its limits again, takes up %s", before.words)
        self._changed()
