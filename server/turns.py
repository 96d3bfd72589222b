"""What takes seconds is asked a few times at once, not by every thread that serves requests.

Routes run in a pool of threads that all tenants share. Who asks for many moments of the past at a time would
have all of them wait, and with them every page of everybody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from server.errors import BusyError


class Turns:
    """So many at once; who comes when all are taken is told to come again."""

    def __init__(self, most: int, what: str) -> None:
        self._free = threading.BoundedSemaphore(most)
        self._why = f"{what}: {most} are asked for at once already"

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a turn; raises ``BusyError`` where there is none."""
        if not self._free.acquire(blocking=False):
            raise BusyError(self._why, remedy="try again in a moment")
        try:
            yield
        finally:
            self._free.release()
