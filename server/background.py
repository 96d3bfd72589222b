"""A thread for work that nobody waits for: whoever waits for a page or an answer goes first.

On Linux a thread has a niceness of its own (sched(7)), and threads that it begins have the same: so DuckDB's
workers stand back too, where its connection is opened in here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

NICENESS: Final = 5
"""A third of the CPU time of a thread that is not nice, where both want all: late, but not starved."""

P = ParamSpec("P")
T = TypeVar("T")


class Background:
    """One thread; what is given to it is done one after the other."""

    def __init__(self, name: str, niceness: int = NICENESS) -> None:
        self._thread = ThreadPoolExecutor(1, name, initializer=os.nice, initargs=(niceness,))

    async def run(self, do: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Do something in the thread. Raises what it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: do(*given, **named))

    def close(self) -> None:
        """End the thread once it has done what it was given; what waits behind that is left out."""
        self._thread.shutdown(wait=True, cancel_futures=True)
