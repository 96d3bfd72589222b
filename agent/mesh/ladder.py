"""Which rung next, and why not the ones above: pure, the same answer at both ends.

The rungs in order: the hosts' own IPv4 addresses (one LAN, or routed without a NAT), IPv6, the addresses a
STUN server saw (server reflexive), a TURN server over UDP, over TCP, over TLS. A rung that cannot work is
passed over at once; both ends decide it from the same two offers, so they stay in step without asking each
other. The rung that worked last time may come first: the order of both ends names it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.errors import SignallingError
from analytics.measurement import Rung

MAX_FAILED_TEXT: Final = 1000  # as the reading's column
MAX_REASON: Final = 180
LEAST_PORT: Final = 1024

PRIVATE: Final = [ipaddress.ip_network(block) for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
"""RFC 1918; not Python's ``is_private``, which counts the blocks for documentation too."""
ULA: Final = ipaddress.ip_network("fc00::/7")
ULA_SITE_BITS: Final = 48  # RFC 4193 section 3: the global id names one site


@dataclass(frozen=True, slots=True)
class Candidate:
    """A transport address that one end may be reached at (RFC 8445 section 5)."""

    type: str  # host, srflx, prflx or relay
    address: str
    port: int
    base: str = ""  # of srflx: the address on the host itself
    sdp: str = ""

    @property
    def v6(self) -> bool:
        """True for IPv6."""
        return ":" in self.address

    def __str__(self) -> str:
        return f"{self.type} {self.address} {self.port}"


def parse_candidate(sdp: str) -> Candidate:
    """Read one line of an offer (RFC 8839 section 5.1); only numeric addresses, only UDP."""
    words = sdp.split()
    try:
        _, component, transport, priority, address, port, _, kind = words[:8]
        ipaddress.ip_address(address)
        extras = list(zip(words[8::2], words[9::2], strict=False))  # a name may come twice
        _check_numbers(component, priority, *(value for name, value in extras if name in _NUMBERED))
        candidate = Candidate(kind, address, int(port), dict(extras).get("raddr", ""), sdp)
    except ValueError as error:
        raise SignallingError(f"the peer offered a candidate that does not read: {sdp[:80]!r}") from error
    if transport.lower() != "udp" or kind not in ("host", "srflx", "relay") or not 0 < candidate.port < 65536:
        raise SignallingError(f"the peer offered a candidate of no known kind: {sdp[:80]!r}")
    return candidate


def require_possible(theirs: Iterable[Candidate], *, local: Sequence[str] | None = None) -> None:
    """Raise ``SignallingError`` for an address at which no agent can be: a word of the server's, or a trick.

    Offers come through the server, and each address in them is sent to before anybody there has proved to be
    the peer. Agents, NATs and relays use no port below 1024 (RFC 4787 REQ-3, RFC 8656 section 7.2), so that
    DNS, NTP or SNMP hear nothing. Loopback is for who was told to use it (``local``).
    """
    theirs = [*theirs]
    fit = possible(theirs, local=local)
    for candidate in theirs:
        if candidate not in fit:
            raise SignallingError(f"the peer offered what no agent has: {candidate.sdp[:80]!r}")


def possible(offer: Iterable[Candidate], *, local: Sequence[str] | None = None) -> list[Candidate]:
    """Leave out of one's own offer what the peer would refuse, as where a NAT maps to a port below 1024."""
    loopback = any(ipaddress.ip_address(address).is_loopback for address in local or ())
    return [one for one in offer if is_possible(one.address, one.port, loopback=loopback)]


def is_possible(address: str, port: int, *, loopback: bool) -> bool:
    """Whether an agent may be at an address that only somebody's word is known for."""
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    nobody = ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255"
    return port >= LEAST_PORT and not nobody and (loopback or not ip.is_loopback)


def _check_numbers(*texts: str) -> None:
    """Aioice reads these again and would raise in the middle of a climb. Raises ``ValueError``."""
    for text in texts:
        if not 0 <= int(text) < 2**32:
            raise ValueError(f"{text[:20]} is out of range")


_NUMBERED: Final = ("rport", "generation")

Offer = Sequence[Candidate]


def usable(rung: Rung, offer: Offer) -> list[Candidate]:
    """The candidates of the peer's offer that this rung may be reached at."""
    return [candidate for candidate in offer if _BELONGS[rung](candidate)]


def unfit(rung: Rung, mine: Offer, theirs: Offer) -> str:
    """Say why ``rung`` cannot work between these two offers; empty if it is worth trying."""
    for offer, where in ((mine, "here"), (theirs, "at the peer")):
        if not usable(rung, offer):
            return f"{_MISSING[rung]} {where}"
    return _UNFIT.get(rung, _always_fit)(mine, theirs)


@dataclass(slots=True)
class Ladder:
    """The way down the rungs: ``first`` before all others, if it is one of them."""

    rungs: Sequence[Rung]
    first: Rung | None = None
    failed: dict[Rung, str] = field(default_factory=dict)

    @property
    def current(self) -> Rung | None:
        """The rung to try now; None at the foot."""
        if self.first in self.rungs and self.first not in self.failed:
            return self.first
        return next((rung for rung in self.rungs if rung not in self.failed), None)

    def fail(self, rung: Rung, why: str) -> None:
        """Note why ``rung`` did not work."""
        self.failed[rung] = why[:MAX_REASON]

    @property
    def failed_text(self) -> str:
        """Why no higher rung, as in the reading: 'lan: why; ipv6: why'."""
        current = self.current
        above = [rung for rung in self.rungs if rung in self.failed or self._skipped(rung, current)]
        not_tried = f"not tried: {current} worked last time"
        return "; ".join(f"{rung}: {self.failed.get(rung, not_tried)}" for rung in above)[:MAX_FAILED_TEXT]

    def _skipped(self, rung: Rung, current: Rung | None) -> bool:
        """Whether ``rung`` stands above the one that comes first."""
        return current is not None and self.rungs.index(rung) < self.rungs.index(current)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a STUN server's answers say of where an end stands."""

    nats: frozenset[str]  # public addresses of the NATs in front of it
    open: bool  # it was seen at an address of its own
    inside: bool  # and that is a private one: the STUN server is in the same organisation's network

    @property
    def known(self) -> bool:
        return self.open or bool(self.nats)


def _standing(offer: Offer) -> _Standing:
    seen = [candidate for candidate in offer if candidate.type == "srflx"]
    nats = frozenset(candidate.address for candidate in seen if candidate.address != candidate.base)
    own = [
        ipaddress.ip_address(candidate.address) for candidate in seen if candidate.address == candidate.base
    ]
    return _Standing(nats, bool(own), any(address in block for address in own for block in PRIVATE))


def _other_network(mine: Offer, theirs: Offer) -> str:
    """Ends behind different NATs, or one behind a NAT, do not reach each other's own addresses.

    Without an answer from STUN it has to be tried. Two ends with public addresses of their own share no
    network for that; what STUN saw is where they are reached.
    """
    here, there = _standing(mine), _standing(theirs)
    if not here.known or not there.known or here.nats & there.nats or (here.inside and there.inside):
        return ""
    return f"other network ({_say(here)} here, {_say(there)} at the peer)"


def _say(standing: _Standing) -> str:
    return f"NAT {', '.join(sorted(standing.nats))}" if standing.nats else "no NAT"


def _other_ula(mine: Offer, theirs: Offer) -> str:
    """Unique local addresses (RFC 4193) reach no other site."""
    if any(_global(c.address) for c in usable(Rung.IPV6, mine)) and any(
        _global(c.address) for c in usable(Rung.IPV6, theirs)
    ):
        return ""
    if _ula_sites(mine) & _ula_sites(theirs):
        return ""
    return "only unique local IPv6 addresses, of different sites"


def _global(address: str) -> bool:
    return ipaddress.ip_address(address) not in ULA


def _ula_sites(offer: Offer) -> set[int]:
    addresses = [c.address for c in usable(Rung.IPV6, offer) if not _global(c.address)]
    return {int(ipaddress.ip_address(address)) >> (128 - ULA_SITE_BITS) for address in addresses}


def _always_fit(_mine: Offer, _theirs: Offer) -> str:
    return ""


def _reaches_nobody(_candidate: Candidate) -> bool:
    return False


def _is_relay(candidate: Candidate) -> bool:
    return candidate.type == "relay"


_BELONGS: Final[dict[Rung, Callable[[Candidate], bool]]] = {
    Rung.LAN: lambda candidate: candidate.type == "host" and not candidate.v6,
    Rung.IPV6: lambda candidate: candidate.type == "host" and candidate.v6,
    # Not the private host addresses: in another site's network they belong to somebody else.
    Rung.SRFLX: lambda candidate: candidate.type == "srflx",
    Rung.RELAY_UDP: _is_relay,
    Rung.RELAY_TCP: _is_relay,
    Rung.RELAY_TLS: _is_relay,
    Rung.NONE: _reaches_nobody,  # what a reading says; a server that orders it is answered as for any other
}
_MISSING: Final[dict[Rung, str]] = {
    Rung.LAN: "no IPv4 address",
    Rung.IPV6: "none",
    Rung.SRFLX: "no answer from the STUN server",
    Rung.RELAY_UDP: "no relay address from the TURN server over UDP",
    Rung.RELAY_TCP: "no relay address from the TURN server over TCP",
    Rung.RELAY_TLS: "no relay address from the TURN server over TLS",
    Rung.NONE: "no way to connect",
}
_UNFIT: Final[dict[Rung, Callable[[Offer, Offer], str]]] = {
    Rung.LAN: _other_network,
    Rung.IPV6: _other_ula,
}
