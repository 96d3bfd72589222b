"""Which rung worked last time between two agents, so that the next test tries it first.

The memory must not keep a pair on a low rung for ever: it expires, it is dropped when the ends could not use
it, and from time to time a test goes down the whole ladder again, where a better rung may work by now. Soon
at first, because a moment's loss is enough to fall to the relay; then ever more seldom, because each rung
that fails again costs seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from analytics.measurement import Rung
from server.schedule import Pair

FULL_AFTER: Final = 2
"""Tests from a rung that is new to a pair to a whole ladder; one more after each that ends there again."""
FULL_EVERY: Final = 12
"""The most of them: an hour of cycles at the default of five minutes."""
EXPIRES_S: Final = 3600.0
MOST_PAIRS: Final = 500_000
"""All pairs of a thousand agents; beyond it the one that was longest not tested is forgotten."""


class Way(NamedTuple):
    """What is remembered of a pair."""

    rung: Rung
    tests: int  # since the whole ladder was tried
    at_s: float
    full_after: int  # that many tests it is tried again


class Ways:
    """The table: pair -> the rung that worked last."""

    def __init__(self, most: int = MOST_PAIRS) -> None:
        self._most = most
        self._ways: OrderedDict[Pair, Way] = OrderedDict()

    def __len__(self) -> int:
        """How many pairs are remembered."""
        return len(self._ways)

    def first_rung(self, pair: Pair, rungs: Sequence[Rung], now_s: float) -> Rung | None:
        """The rung to try first in a test that starts now; None: go down the whole ladder."""
        way = self._ways.get(pair)
        if way is None:
            return None
        tests = way.tests + 1
        if tests >= way.full_after or now_s - way.at_s > EXPIRES_S or way.rung not in rungs:
            self._ways[pair] = way._replace(tests=0, full_after=min(way.full_after + 1, FULL_EVERY))
            return None
        self._ways[pair] = way._replace(tests=tests)
        return way.rung

    def known_rung(self, pair: Pair, rungs: Sequence[Rung]) -> Rung | None:
        """The rung that worked last, for a test that takes no turn of the pair's; None: the whole ladder."""
        way = self._ways.get(pair)
        return way.rung if way is not None and way.rung in rungs else None

    def heard(self, pair: Pair, rung: Rung, now_s: float) -> None:
        """Take one end's word for the rung a test ran over."""
        if rung is Rung.NONE:
            self.forget(pair)
            return
        known = self._ways.get(pair)
        same = known is not None and known.rung is rung
        self._ways[pair] = known._replace(at_s=now_s) if known and same else Way(rung, 0, now_s, FULL_AFTER)
        self._ways.move_to_end(pair)
        while len(self._ways) > self._most:
            self._ways.popitem(last=False)

    def forget(self, pair: Pair) -> None:
        """Know nothing of a pair: its test failed, or did not end."""
        self._ways.pop(pair, None)
