"""Whose address is it: which enrolled agent's host a session's remote address belongs to.

READ FIRST: ``AddressBook.owner``. Addresses are not names: private ones are used in many places, and a public
one may hide a whole site. So an address is called an agent's only

1. where the mesh reached that agent there from the same observer: the DTLS certificate proves it;
2. where it is on that agent's own interfaces, on nobody else's, and means the same at the observer: it is
   global, or the two stand in one site;
3. where it is the public side of a NAT (RFC 4787) and only one agent is behind it.

Otherwise nothing is said. Pure.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from analytics.measurement import Flow, Reading
from analytics.shapes import Member
from analytics.wire import Dependence, NatReport

K = TypeVar("K")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NATTED: Final = frozenset({"srflx", "prflx"})
"""ICE candidates (RFC 8445) whose address is that of whatever stands in front of the agent."""


def canonical(text: str) -> Address | None:
    """Read an address; IPv4 in IPv6 (RFC 4291) becomes IPv4, a zone is left out.

    None for what is no address of one host: text, loopback, link-local (it is another host on each link),
    multicast, and the unspecified address.
    """
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    nobody = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    return None if nobody else address


@dataclass(frozen=True, slots=True)
class AddressBook:
    """What a fleet's addresses are known to be. Made by ``book_of``."""

    sites: Mapping[str, str]
    own: Mapping[Address, frozenset[str]]
    """On whose interfaces it is."""
    behind: Mapping[Address, frozenset[str]]
    """Who is behind this public side of a NAT."""
    reached: Mapping[tuple[str, Address], frozenset[str]]
    """Whom the mesh reached there, by observer."""

    def owner(self, observer: str, remote: str) -> str | None:
        """Name the agent whose host ``observer`` had a session with; None where that cannot be said."""
        address = canonical(remote)
        if address is None or observer in self.own.get(address, ()):
            return None
        reached = self.reached.get((observer, address))
        if reached:
            return _only(reached)
        own = self.own.get(address)
        if own:
            return _only(own if address.is_global else self._beside(observer, own))
        return _only(self.behind.get(address, frozenset()) - {observer}) if self._is_open(address) else None

    def _beside(self, observer: str, agents: Iterable[str]) -> frozenset[str]:
        return frozenset(agent for agent in agents if self.sites.get(agent) == self.sites.get(observer))

    def _is_open(self, address: Address) -> bool:
        """True where one agent alone is behind the address: of two, either may be meant."""
        return len(self.behind.get(address, ())) == 1


def book_of(
    members: Sequence[Member], readings: Iterable[Reading], flows: Iterable[Flow] = ()
) -> AddressBook:
    """Gather what agents said of themselves, where tests reached them, and where their sessions ended."""
    sites = {member.name: member.site for member in members}
    own: defaultdict[Address, set[str]] = defaultdict(set)
    behind: defaultdict[Address, set[str]] = defaultdict(set)
    reached: defaultdict[tuple[str, Address], set[str]] = defaultdict(set)
    for member in members:
        _add(own, member.addresses, member.name)
        _add(behind, _public(member.nat), member.name)
    for agent, local in {(flow.agent, flow.local_address) for flow in flows}:
        _add(own, [local], agent)
    for reading in readings:
        _learn(reading, own, behind, reached)
    known = sites.keys()
    return AddressBook(
        sites=sites, own=_of(own, known), behind=_of(behind, known), reached=_of(reached, known)
    )


def _add(places: defaultdict[Address, set[str]], texts: Iterable[str], agent: str) -> None:
    for text in texts:
        if (address := canonical(text)) is not None:
            places[address].add(agent)


def _public(nat: NatReport | None) -> list[str]:
    """The public side of a NAT; none where no NAT is in front: the address is then an interface's."""
    return [] if nat is None or nat.mapping is Dependence.NONE else [nat.mapped]


def _learn(
    reading: Reading,
    own: defaultdict[Address, set[str]],
    behind: defaultdict[Address, set[str]],
    reached: defaultdict[tuple[str, Address], set[str]],
) -> None:
    """A host candidate is the agent's own address; a reflexive one is that of the NAT in front of it."""
    kind, local = _candidate(reading.local_candidate)
    if kind == "host" and local is not None:
        own[local].add(reading.src)
    kind, remote = _candidate(reading.remote_candidate)
    if remote is None:
        return
    if kind == "host":
        reached[reading.src, remote].add(reading.dst)
    elif kind in _NATTED:
        behind[remote].add(reading.dst)


def _candidate(text: str) -> tuple[str, Address | None]:
    """Take 'type address port' apart; a relay's address is nobody's of the two."""
    parts = text.split(" ")
    return (parts[0], canonical(parts[1])) if len(parts) == 3 else ("", None)


def _of(places: Mapping[K, set[str]], known: Iterable[str]) -> dict[K, frozenset[str]]:
    enrolled = frozenset(known)
    return {key: frozenset(agents & enrolled) for key, agents in places.items() if agents & enrolled}


def _only(agents: frozenset[str]) -> str | None:
    return next(iter(agents)) if len(agents) == 1 else None
