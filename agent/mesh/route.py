"""Which way a path takes: a stable name for a route, and whether it changed.

A route is the addresses that answered, hop by hop; a hop that nobody answered for may be anyone. Routers that
balance load choose by the 5-tuple (ECMP), and each test has a port of its own: two tests may take two ways
that both have been there all along. So what is remembered of a peer is a handful of routes, and only a route
that fits none of them is a change. Pure.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from analytics.measurement import RouteChange

Route = tuple[str, ...]
"""Who answered at TTL 1, 2, ...; an empty address is a wildcard."""

MAX_ROUTES: Final = 16
"""Remembered of one peer; the one not seen for longest goes."""
ID_BYTES: Final = 6
BRANCH_FLOWS: Final = 16
"""Flows that find both of two equal branches with a probability of 1 - 2^-15."""


def route_id(route: Route) -> str:
    """Name a route: the same addresses in the same places, on whatever host, have the same name."""
    if not any(route):
        return ""
    return hashlib.blake2b("\n".join(route).encode(), digest_size=ID_BYTES).hexdigest()


def compatible(one: Route, other: Route) -> bool:
    """True where the two may be one route: of one length, and equal wherever both are known."""
    return len(one) == len(other) and all(a == b or not a or not b for a, b in zip(one, other, strict=True))


def compare(known: Route, seen: Route) -> RouteChange:
    """Tell ``same`` (every address), ``compatible`` (as far as is known) or ``changed``."""
    if known == seen:
        return RouteChange.SAME
    return RouteChange.COMPATIBLE if compatible(known, seen) else RouteChange.CHANGED


def merge(known: Route, seen: Route) -> Route:
    """Fill in what one of two compatible routes does not know."""
    return tuple(a or b for a, b in zip(known, seen, strict=True))


@dataclass(frozen=True, slots=True)
class Settled:
    """What a trace's route is called, and how it stands to those before."""

    id: str
    change: RouteChange


NO_ROUTE: Final = Settled("", RouteChange.UNKNOWN)


class Routes:
    """The routes to one peer that this agent has seen, the latest last."""

    def __init__(self) -> None:
        self._known: list[tuple[str, Route]] = []

    def settle(self, seen: Route) -> Settled:
        """Name a route, and remember it. A known one keeps its name, also where more is known of it now."""
        if not any(seen):
            return NO_ROUTE
        for place in reversed(range(len(self._known))):
            name, route = self._known[place]
            if compatible(route, seen):
                change = self._change(place, seen)
                del self._known[place]
                self._known.append((name, merge(route, seen)))
                return Settled(name, change)
        change = RouteChange.CHANGED if self._known else RouteChange.FIRST
        self._known = [*self._known, (route_id(seen), seen)][-MAX_ROUTES:]
        return Settled(route_id(seen), change)

    def _change(self, place: int, seen: Route) -> RouteChange:
        if place != len(self._known) - 1:
            return RouteChange.BALANCED  # an earlier one again: both are there
        return compare(self._known[place][1], seen)


@dataclass(frozen=True, slots=True)
class FanHop:
    """Who answered at one TTL over all flows, and for how many flows."""

    ttl: int
    flows: tuple[tuple[str, int], ...]  # (address, flows), most first
    silent: int  # flows that nobody answered for


def fan_out(routes: Sequence[Route]) -> list[FanHop]:
    """Lay the routes of many flows to one end over each other: more than one at a TTL is load balancing."""
    hops = []
    for place in range(max(map(len, routes), default=0)):
        answered = Counter(route[place] for route in routes if len(route) > place and route[place])
        ranked = sorted(answered.items(), key=lambda item: (-item[1], item[0]))
        hops.append(FanHop(place + 1, tuple(ranked), len(routes) - answered.total()))
    return hops
