"""How often a router may be asked, over all tests of this agent together.

Routers limit the rate of their ICMP errors, and a limit looks like loss. The near ones, this host's gateway
and its provider, are on the way of every test: two tests at once must share them. Pure; the clock is the
caller's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

LATE_NS: Final = 10_000_000
"""What a timer is late at most, mostly: the next is booked before it is known when the last one left."""
INTERVAL_NS: Final = 1_000_000_000 + LATE_NS
KEPT_NS: Final = 60_000_000_000
MANY: Final = 256
UNKNOWN: Final = ""
"""A router that has not answered yet: it may be any that stands at the same TTL."""


class RouterLedger:
    """When each router was last asked, or will be next.

    A router is known by its address. While nothing has answered at a TTL, its router counts as the same as
    every other at that TTL, known or not.
    """

    def __init__(self, interval_ns: int = INTERVAL_NS) -> None:
        self._interval_ns = interval_ns
        self._asked: dict[tuple[int, str], int] = {}  # (TTL, router) -> the latest probe, sent or booked
        self._left: dict[tuple[int, str], int] = {}  # the same, but sent

    def reserve(self, ttl: int, router: str, *, from_ns: int, until_ns: int) -> int | None:
        """Book the first moment in [from, until] at which the router may be asked; None if there is none."""
        at_ns = max(from_ns, self._free_ns(ttl, router))
        if at_ns > until_ns:
            return None
        _note(self._asked, (ttl, router), at_ns)
        return at_ns

    def held_ns(self, ttl: int, router: str, now_ns: int) -> int:
        """How long whoever booked has to wait still, because the one before it left too late; 0 = no more."""
        left = max(_same(self._left, ttl, router), default=None)
        return 0 if left is None else max(0, left + self._interval_ns - LATE_NS - now_ns)

    def asked(self, ttl: int, router: str, now_ns: int) -> None:
        """Note that the router was asked at ``now_ns``, which may be later than what was booked."""
        for table in (self._asked, self._left):
            if len(table) > MANY:
                _forget(table, now_ns - KEPT_NS)
            _note(table, (ttl, router), now_ns)

    def _free_ns(self, ttl: int, router: str) -> int:
        return max((at_ns + self._interval_ns for at_ns in _same(self._asked, ttl, router)), default=0)


def _same(table: dict[tuple[int, str], int], ttl: int, router: str) -> Iterator[int]:
    for (at_ttl, known), at_ns in table.items():
        if (known and known == router) or (at_ttl == ttl and UNKNOWN in (known, router)):
            yield at_ns


def _note(table: dict[tuple[int, str], int], key: tuple[int, str], at_ns: int) -> None:
    table[key] = max(at_ns, table.get(key, at_ns))


def _forget(table: dict[tuple[int, str], int], before_ns: int) -> None:
    for key in [key for key, at_ns in table.items() if at_ns <= before_ns]:
        del table[key]
