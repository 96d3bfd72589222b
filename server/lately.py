"""What the latest tests of watched pairs say: readings go in as they arrive, reports ask for what is known.

Everything is in memory and comes from facts that are stored anyway. After a restart the letters are those of
single readings again, until a pair has been tested a few times.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from analytics.batch import TableBlock, unpack_rows
from analytics.clock import now_us
from analytics.measurement import Reading
from analytics.rules.load import Rules
from analytics.watched import PairWatch, Watched, Way
from server.schedule import Pair

AWAITED_US: Final = 120_000_000
"""A reading that comes later than this after its test began says nothing of now."""
MOST_TESTS: Final = 20_000
"""Tests whose readings are awaited."""
MOST_PAIRS: Final = 5_000
"""Watched pairs that are remembered; beyond it the one that was first is forgotten."""


class Lately:
    """The watched pairs' latest tests. For several threads."""

    def __init__(self, rules: Rules, *, clock: Callable[[], int] = now_us) -> None:
        self._rules = rules
        self._clock = clock
        self._lock = threading.Lock()
        self._pairs: OrderedDict[Pair, PairWatch] = OrderedDict()
        self._tests: OrderedDict[str, tuple[Pair, int]] = OrderedDict()  # that began -> pair, and when
        self.taken = 0
        """Readings that were taken in: another number, and there may be more to tell."""

    def began(self, test: str, pair: Pair) -> None:
        """Expect the readings of a test of a watched pair."""
        with self._lock:
            self._tests[test] = (pair, self._clock())
            while len(self._tests) > MOST_TESTS:
                self._tests.popitem(last=False)

    def hear(self, block: TableBlock) -> None:
        """Take a batch's readings in; unpacked only while any are awaited."""
        if self._awaits():
            self.take(unpack_rows("readings", block))

    def _awaits(self) -> bool:
        with self._lock:
            latest = next(reversed(self._tests.values()), None)
            return latest is not None and self._clock() - latest[1] <= AWAITED_US

    def take(self, readings: Iterable[Reading]) -> None:
        """Take readings in; those of no test that began lately are left out."""
        with self._lock:
            at_us = self._clock()
            for reading in readings:
                pair, began_us = self._tests.get(reading.test, (None, 0))
                if pair is not None and at_us - began_us <= AWAITED_US:
                    self.taken += 1
                    self._of(pair).take(reading, self._rules, at_us)

    def told(self, at_us: int) -> dict[Way, Watched]:
        """What is known of each directed path that was tested in the last minutes."""
        with self._lock:
            known = [watch.told(at_us) for watch in self._pairs.values()]
        return {way: watched for told in known for way, watched in told.items()}

    def _of(self, pair: Pair) -> PairWatch:
        watch = self._pairs.setdefault(pair, PairWatch(*pair))
        while len(self._pairs) > MOST_PAIRS:
            self._pairs.popitem(last=False)
        return watch
