"""The addresses of this host's interfaces, as the server is told them: sessions of other hosts end there."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from typing import Final

import ifaddr

from analytics.wire import MAX_ADDRESSES

log: Final = logging.getLogger("pathgrade.agent.addresses")


def own_addresses() -> list[str]:
    """Read them from the kernel (getifaddrs(3)); empty where it does not say."""
    try:
        adapters = list(ifaddr.get_adapters())
    except OSError as error:
        log.warning("addresses not told: getifaddrs: %s", error)
        return []
    return told(ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in adapters for ip in adapter.ips)


def told(found: Iterable[str]) -> list[str]:
    """Pick what means something to other hosts: no loopback, no link-local; each once, and not too many."""
    addresses = {ipaddress.ip_address(text.partition("%")[0]) for text in found}
    kept = (one for one in addresses if not (one.is_loopback or one.is_link_local or one.is_unspecified))
    return [str(one) for one in sorted(kept, key=lambda one: (one.version, int(one)))][:MAX_ADDRESSES]
