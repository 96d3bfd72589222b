"""Relayed rungs made ready ahead of their turn, so that falling to one costs little.

A direct rung is left alone for ``AHEAD_S``, which is enough for nearly all. After that the first relay is
asked for an address while the rungs above are still tried; if it does not answer soon, the one below it is
asked too. Gathering is all that is done ahead: each rung has its own connection and is tried in its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from analytics.measurement import Rung

AHEAD_S: Final = 0.7
NEXT_S: Final = 0.3  # a relay that has not answered by then may never


class Gathered(Protocol):
    """A connection that has asked its servers (``agent.mesh.ice.Attempt``)."""

    @property
    def empty(self) -> bool:
        """True if no server gave it an address."""

    async def close(self) -> None:
        """Free it."""


A = TypeVar("A", bound=Gathered)


class Ahead(Generic[A]):
    """The attempts gathered ahead; whatever is not taken is closed with it."""

    def __init__(self, gather: Callable[[Rung], Coroutine[Any, Any, A]], rungs: Sequence[Rung]) -> None:
        self._gather = gather
        self._rungs = [
            rung for rung in dict.fromkeys(rungs) if rung.relayed
        ]  # each once, whatever is ordered
        self._gathering: dict[Rung, asyncio.Task[A]] = {}
        self._taken: set[Rung] = set()
        self._preparing = asyncio.create_task(self._prepare())

    async def take(self, rung: Rung) -> A:
        """Gather for ``rung``, or hand over what has been gathered. The caller closes it."""
        self._taken.add(rung)
        task = self._gathering.pop(rung, None)
        return await (task or self._gather(rung))

    async def close(self) -> None:
        """End what is under way and free what was not needed."""
        tasks = [self._preparing, *self._gathering.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        unused = [task.result() for task in self._gathering.values() if not _failed(task)]
        await asyncio.gather(*(attempt.close() for attempt in unused))

    async def _prepare(self) -> None:
        await asyncio.sleep(AHEAD_S)
        for rung in self._rungs:
            if rung in self._taken:
                continue
            task = self._gathering[rung] = asyncio.create_task(self._gather(rung))
            done, _ = await asyncio.wait([task], timeout=NEXT_S)
            if done and not _failed(task) and not task.result().empty:
                return


def _failed(task: asyncio.Task[A]) -> bool:
    """Whether nothing came of it; its error, if any, belongs to whoever takes the rung."""
    return task.cancelled() or task.exception() is not None
