"""The last few answers that were costly to make, each for a while."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Remembers ``most`` answers for ``for_s`` seconds; may be asked from several threads.

    Who asks for the same at the same time waits, so that it is made once.
    """

    def __init__(self, most: int, for_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._for_s = for_s
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._making: dict[K, threading.Lock] = {}

    def of(self, key: K, make: Callable[[], V]) -> V:
        """Recall an answer, or make it; what ``make`` raises is raised, and nothing kept."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            try:
                known = self._recall(key)
                return known[1] if known is not None else self._keep(key, make())
            finally:
                with self._lock:
                    self._making.pop(key, None)

    def _recall(self, key: K) -> tuple[float, V] | None:
        with self._lock:
            known = self._answers.get(key)
        return known if known is not None and self._clock() - known[0] < self._for_s else None

    def _keep(self, key: K, answer: V) -> V:
        with self._lock:
            self._answers[key] = (self._clock(), answer)
            self._answers.move_to_end(key)
            while len(self._answers) > self._most:
                self._answers.popitem(last=False)
        return answer
