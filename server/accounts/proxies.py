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
        """Say who asks: the last address that a believed proxy was asked from, else the peer itself.

        A proxy may add a line of its own below the one that came with the request, so all of them are read.
        """
        if not self.has(peer):
            return peer
        told = ",".join(_lines(headers, "x-forwarded-for"))
        for hop in reversed([hop for hop in told.split(",") if hop.strip()]):
            address = _address(hop)
            if address is None:  # whoever wrote that, nothing before it can be believed
                return peer
            if not self.has(address):
                return address
        return peer

    def speaks_tls(self, peer: str, headers: Mapping[str, str]) -> bool:
        """Tell whether a believed proxy was asked by https."""
        return self.has(peer) and headers.get("x-forwarded-proto", "").split(",")[0].strip() == "https"


NO_PROXIES: Final = Proxies()


def peer_of(request: Request) -> str:
    """Name the address that the connection is from."""
    return request.client.host if request.client else ""


def said_name(headers: Mapping[str, str], header: str) -> str | None:
    """Take the name from the proxy's header; None: it says none, or none that is fit for the audit log."""
    name = _only_line(headers, header)
    return name if name and len(name) <= LONGEST_NAME and name.isprintable() else None


def said_groups(headers: Mapping[str, str], header: str) -> Sequence[str]:
    """Take the groups from the proxy's header."""
    groups = _only_line(headers, header).replace("|", ",").split(",")
    return [group.strip() for group in groups if group.strip()][:MOST_GROUPS]


def _lines(headers: Mapping[str, str], header: str) -> list[str]:
    """List what each line of a header says: one may come more than once (RFC 9110, 5.3)."""
    return [value for name, value in headers.items() if name.lower() == header.lower()]


def _only_line(headers: Mapping[str, str], header: str) -> str:
    """Take a header that a proxy sets; of two lines, one may be the asker's own, so neither counts."""
    lines = _lines(headers, header)
    return lines[0].strip() if len(lines) == 1 else ""


def _address(hop: str) -> str | None:
    """Read an address, with or without a port, which some proxies add; None: it is none."""
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text)) if "%" not in text else None
    except ValueError:
        return None
