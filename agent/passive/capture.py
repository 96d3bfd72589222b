"""Passive capture with the host's own switch: watches, or has nothing in the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from agent.local_switch import PASSIVE, Switch
from analytics.wire import LocalOff
from ebpf.events import PausableSource


class Capture:
    """One source, over all sessions with the server."""

    def __init__(self, source: PausableSource, off: LocalOff | None) -> None:
        """Take over an open source; it is paused if it is off."""
        self._source = source
        self._off = off
        if off is not None:
            source.pause()  # it may have been switched off while the programs were compiled
        self._watched = False
        self._switched = asyncio.Event()

    def heard(self, switch: Switch, off: LocalOff | None) -> None:
        """Take what was switched on this host."""
        if switch is not PASSIVE:
            return
        self._off = off
        self._switched.set()
        if off is not None and not self._watched:
            self._source.pause()  # else whoever watches hands over first what was seen by now

    async def run(self, watch: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Watch while it is on, until cancelled. Raises ``EbpfError`` if it cannot be switched on again."""
        while True:
            self._switched.clear()
            if self._off is None:
                self._source.resume()
                await self._until_switched(watch)
            else:
                await self._switched.wait()

    async def _until_switched(self, watch: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._watched = True
        watching = asyncio.create_task(watch())
        switched = asyncio.create_task(self._switched.wait())
        try:
            await asyncio.wait({watching, switched}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            for task in (watching, switched):
                task.cancel()
            try:
                await asyncio.wait([watching])  # a cancel of who waits here stays one
            finally:
                self._watched = False
                if self._off is not None:
                    self._source.pause()
            if not watching.cancelled():
                watching.result()
