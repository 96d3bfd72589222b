"""What a trusted proxy says: whose request it passes on, and from where. Others say nothing here."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import Request

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LONGEST_NAME: Final = 128
MOST_GROUPS: Final = 200


def network(text: object) -> Network:
    """Read an address or a network; raises ``ValueError``."""
    return ipaddress.ip_network(str(text))


@dataclass(frozen=True, slots=True)
class Proxies:
    """The addresses of the proxies that are believed."""

    networks: tuple[Network, ...] = ()

    def has(self, address: str) -> bool:
        """Tell whether an address is one of them."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
            found = found.ipv4_mapped
        return any(found in network for network in self.networks if network.version == found.version)

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """Say who asks: the last address that a believed proxy was asked from, else the peer itself."""
        if not self.has(peer):
            return peer
        hops = [hop.strip() for hop in headers.get("x-forwarded-for", "").split(",") if hop.strip()]
        before = [hop for hop in hops if not self.has(hop)]
        return before[-1] if before else peer

    def speaks_tls(self, peer: str, headers: Mapping[str, str]) -> bool:
        """Tell whether a believed proxy was asked by https."""
        return self.has(peer) and headers.get("x-forwarded-proto", "").split(",")[0].strip() == "https"


NO_PROXIES: Final = Proxies()


def peer_of(request: Request) -> str:
    """Name the address that the connection is from."""
    return request.client.host if request.client else ""


def said_name(headers: Mapping[str, str], header: str) -> str | None:
    """Take the name from the proxy's header; None: it says none, or none that is fit for the audit log."""
    name = headers.get(header, "").strip()
    return name if name and len(name) <= LONGEST_NAME and name.isprintable() else None


def said_groups(headers: Mapping[str, str], header: str) -> Sequence[str]:
    """Take the groups from the proxy's header."""
    groups = headers.get(header, "").replace("|", ",").split(",")
    return [group.strip() for group in groups if group.strip()][:MOST_GROUPS]
