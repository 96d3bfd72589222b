"""What the NAT in front of this host does, from what STUN answered (RFC 5780): pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from agent.mesh.binding import Change, Endpoint
from analytics.wire import Dependence

CGNAT: Final = ipaddress.ip_network("100.64.0.0/10")  # RFC 6598
HERE: Final = Change()
OTHER_PORT: Final = Change(port=True)
OTHER_ADDRESS: Final = Change(address=True)
OTHER_BOTH: Final = Change(address=True, port=True)

LIFETIME_FIRST_S: Final = 30
LIFETIME_MOST_S: Final = 180
"""Beyond it nothing here depends on how long a mapping lasts."""
LIFETIME_RESOLUTION_S: Final = 10


def targets(server: Endpoint, other: Endpoint | None) -> dict[Change, Endpoint]:
    """The server's doors by how they differ from ``server``, given its OTHER-ADDRESS."""
    doors = {HERE: server}
    if other is None:
        return doors
    doors[Change(other[0] != server[0], other[1] != server[1])] = other
    if OTHER_BOTH in doors:
        doors[OTHER_PORT] = (server[0], other[1])
        doors[OTHER_ADDRESS] = (other[0], server[1])
    return doors


def mapping(local: Endpoint, seen: Mapping[Change, Endpoint | None]) -> Dependence:
    """What the mapping depends on, given how one local socket was seen at each door (RFC 5780 section 4.3).

    A door missing from ``seen`` does not exist; None: it did not answer.
    """
    first = seen.get(HERE)
    if first is None:
        return Dependence.UNKNOWN
    if first == local:
        return Dependence.NONE
    if OTHER_ADDRESS not in seen:
        return _same(first, seen.get(OTHER_PORT), Dependence.NOT_PORT, Dependence.ADDRESS_AND_PORT)
    at_other = seen[OTHER_ADDRESS]
    if at_other is None or at_other == first:
        return Dependence.UNKNOWN if at_other is None else Dependence.ENDPOINT_INDEPENDENT
    return _same(at_other, seen.get(OTHER_BOTH), Dependence.ADDRESS, Dependence.ADDRESS_AND_PORT)


def _same(one: Endpoint, other: Endpoint | None, same: Dependence, different: Dependence) -> Dependence:
    if other is None:
        return Dependence.UNKNOWN
    return same if one == other else different


def filtering(answered: Mapping[Change, bool]) -> Dependence:
    """What is let in, given which doors' unasked-for answers arrived (RFC 5780 section 4.4).

    Only doors that the server has count; ``HERE`` must be among those that were heard.
    """
    if not answered.get(HERE) or OTHER_PORT not in answered:
        return Dependence.UNKNOWN
    if answered.get(OTHER_BOTH):
        return Dependence.ENDPOINT_INDEPENDENT
    if answered[OTHER_PORT]:
        return Dependence.ADDRESS if OTHER_BOTH in answered else Dependence.NOT_PORT
    return Dependence.ADDRESS_AND_PORT


def cgnat(addresses: Iterable[str]) -> bool | None:
    """Whether a carrier's NAT is on the way out, given the addresses seen there; None if none was seen."""
    known = [ipaddress.ip_address(address) for address in addresses if address]
    return any(address in CGNAT for address in known) if known else None


@dataclass(frozen=True, slots=True)
class LifetimeSearch:
    """How long an idle mapping lives: the wait grows until one dies, then is bisected. At most 7 waits."""

    alive_s: int = 0  # the longest wait that a mapping survived
    dead_s: int | None = None  # the shortest one that it did not

    @property
    def next_s(self) -> int | None:
        """The wait to try next; None when it is known well enough."""
        if self.dead_s is None:
            longer = max(LIFETIME_FIRST_S, 2 * self.alive_s)
            return None if self.alive_s >= LIFETIME_MOST_S else min(longer, LIFETIME_MOST_S)
        if self.dead_s - self.alive_s <= LIFETIME_RESOLUTION_S:
            return None
        return (self.alive_s + self.dead_s) // 2

    def after(self, waited_s: int, *, alive: bool) -> LifetimeSearch:
        """The search once a mapping was idle for ``waited_s`` and proved to be alive, or not."""
        if alive:
            return LifetimeSearch(max(self.alive_s, waited_s), self.dead_s)
        return LifetimeSearch(self.alive_s, min(self.dead_s or waited_s, waited_s))
