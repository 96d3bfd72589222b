"""How often a router may be asked, over all tests of this agent together.

Routers limit the rate of their ICMP errors, and a limit looks like loss. The near ones, this host's gateway
and its provider, are on the way of every test: two tests at once must share them. Pure; the clock is the
caller's.
"""

from __future__ import annotations

from typing import Final

INTERVAL_NS: Final = 1_010_000_000
"""A second, and what a timer may be late: the next is booked before it is known when the last one left."""
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
        self._asked: dict[tuple[int, str], int] = {}  # (TTL, router) -> the latest probe

    def reserve(self, ttl: int, router: str, *, from_ns: int, until_ns: int) -> int | None:
        """Book the first moment in [from, until] at which the router may be asked; None if there is none."""
        at_ns = max(from_ns, self._free_ns(ttl, router))
        if at_ns > until_ns:
            return None
        self.asked(ttl, router, at_ns)
        return at_ns

    def asked(self, ttl: int, router: str, now_ns: int) -> None:
        """Note that the router was asked at ``now_ns``, which may be later than what was booked."""
        if len(self._asked) > MANY:
            self._asked = {key: at_ns for key, at_ns in self._asked.items() if at_ns + KEPT_NS > now_ns}
        key = (ttl, router)
        self._asked[key] = max(now_ns, self._asked.get(key, now_ns))

    def _free_ns(self, ttl: int, router: str) -> int:
        same = (
            at_ns
            for (at_ttl, known), at_ns in self._asked.items()
            if (known and known == router) or (at_ttl == ttl and UNKNOWN in (known, router))
        )
        return max((at_ns + self._interval_ns for at_ns in same), default=0)
