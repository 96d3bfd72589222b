"""Where on a path the round trip is spent: five legs, from the near hops of both ends.

::

    src host ── gateway ── provider ─ ─ ─ ─ ─ ─ provider ── gateway ── dst host
      |   source   |  source  |      transit      |  dest.   |   dest.   |
      |    host    |  access  |                   |  access  |   host    |
      └─── src's own trace ───┘    (the rest)     └─── dst's own trace ──┘

Each end traces its own near hops: those answer reliably, their way back is short, and it works through a
relay too. What an end finds is an upper bound: a router that answers late only adds, so a hop counts for the
least of its own and all later minima (the suffix-min envelope), and never for more than the path's least
round trip. The middle is the rest, so the legs sum to that round trip exactly.

The gateway is the first hop. Access runs on to the first public hop after the leading private ones (RFC 1918,
RFC 6598, RFC 4193). A leg that does not exist is left out: same LAN, or no NAT. A leg that exists and whose
hops are silent has ``measured=False`` and no time: that is in its neighbour towards the middle. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from analytics.measurement import Hop, Leg, LegKind, Reading

_PRIVATE: Final = [
    ipaddress.ip_network(block)
    for block in (
        "10.0.0.0/8",  # RFC 1918
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # RFC 6598: behind a provider's NAT
        "169.254.0.0/16",
        "127.0.0.0/8",
        "fc00::/7",  # RFC 4193
        "fe80::/10",
        "::1/128",
    )
]


@dataclass(frozen=True, slots=True)
class _Near:
    """What one end knows of its own side; cumulative round trips, None = silent."""

    gateway_us: int | None = None
    provider_us: int | None = None
    has_access: bool = True  # a leg between gateway and provider exists

    @property
    def reach_us(self) -> int:
        """How far into the path this end sees."""
        return max(self.gateway_us or 0, self.provider_us or 0)


def legs(
    reading: Reading,
    hops_from_src: Sequence[Hop],
    hops_from_dst: Sequence[Hop],
    *,
    src_site: str,
    dst_site: str,
) -> list[Leg]:
    """Split a reading's least round trip; empty where there is none, or no hop to tell."""
    total_us = reading.rtt_min_us
    if total_us is None or not (_answered(hops_from_src) or _answered(hops_from_dst)):
        return []
    if not reading.rung.relayed and (_direct(hops_from_src) or _direct(hops_from_dst)):
        return [Leg(kind=LegKind.SOURCE_HOST, site=src_site, rtt_us=total_us)]
    src, dst = near(hops_from_src, total_us), near(hops_from_dst, total_us)
    src_us, dst_us = _share(src.reach_us, dst.reach_us, total_us)
    return [
        *_side(src, src_us, LegKind.SOURCE_HOST, LegKind.SOURCE_ACCESS, src_site),
        Leg(kind=LegKind.TRANSIT, site="", rtt_us=total_us - src_us - dst_us),
        *reversed(_side(dst, dst_us, LegKind.DESTINATION_HOST, LegKind.DESTINATION_ACCESS, dst_site)),
    ]


def near(hops: Sequence[Hop], total_us: int) -> _Near:
    """Find an end's gateway and provider in its own trace."""
    reached = envelope(hops, total_us)
    routers, _, _ = _routers(hops)
    _, provider = near_ttls(hops)
    return _Near(
        gateway_us=reached[1] if 1 in routers else None,
        provider_us=None if provider is None else reached[provider],
        has_access=_has_access(hops),
    )


def near_ttls(hops: Sequence[Hop]) -> tuple[int, int | None]:
    """TTL of an end's gateway, and of its provider; None where that is silent, or no leg leads to it."""
    _, provider, last_inside = _routers(hops)
    known = _has_access(hops) and provider == last_inside + 1
    return 1, provider if known else None


def _routers(hops: Sequence[Hop]) -> tuple[dict[int, bool], int | None, int]:
    """Which routers are private, the first public one, and the last before it."""
    routers = {hop.ttl: is_private(hop.address) for hop in _answered(hops) if not hop.is_end}
    provider = min((ttl for ttl, private in routers.items() if not private), default=None)
    inside = [ttl for ttl in routers if provider is None or ttl < provider]
    return routers, provider, max(inside, default=1)  # a silent first hop is taken for a gateway


def _has_access(hops: Sequence[Hop]) -> bool:
    """A leg between gateway and provider exists."""
    routers, provider, last_inside = _routers(hops)
    private_to_the_end = bool(routers) and provider is None and _ends_at(hops, last_inside + 1)
    return not (provider == 1 or private_to_the_end)


@lru_cache(maxsize=1 << 16)  # a fleet meets the same few thousand routers in every test
def is_private(address: str) -> bool:
    """True for an address that is only valid inside a site or behind a provider's NAT."""
    parsed = ipaddress.ip_address(address)
    return any(parsed in block for block in _PRIVATE)


def _answered(hops: Sequence[Hop]) -> list[Hop]:
    """Hops with a time and an address that can be read, by TTL."""
    told = (hop for hop in hops if hop.rtt_min_us is not None and _readable(hop.address))
    return sorted(told, key=lambda hop: hop.ttl)


@lru_cache(maxsize=1 << 16)
def _readable(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _direct(hops: Sequence[Hop]) -> bool:
    """Nothing is between the ends: the first hop is the other end."""
    return _ends_at(hops, 1)


def _ends_at(hops: Sequence[Hop], ttl: int) -> bool:
    return any(hop.ttl == ttl and hop.is_end for hop in _answered(hops))


def envelope(hops: Sequence[Hop], total_us: int) -> dict[int, int]:
    """TTL -> least of its own and all later minima, and of the whole path's."""
    reached: dict[int, int] = {}
    least_us = total_us
    for hop in reversed(_answered(hops)):
        assert hop.rtt_min_us is not None  # _answered
        least_us = reached[hop.ttl] = min(least_us, hop.rtt_min_us)
    return reached


def _share(src_us: int, dst_us: int, total_us: int) -> tuple[int, int]:
    """Where both ends see into each other's side, what they see beyond the total is shared out."""
    if src_us + dst_us <= total_us:
        return src_us, dst_us
    src_part_us = src_us * total_us // (src_us + dst_us)
    return src_part_us, total_us - src_part_us


def _side(seen: _Near, reach_us: int, host: LegKind, access: LegKind, site: str) -> list[Leg]:
    """One end's legs, from the host outwards."""
    host_us = min(seen.gateway_us or 0, reach_us)
    host_leg = Leg(kind=host, site=site, rtt_us=host_us, measured=seen.gateway_us is not None)
    if not seen.has_access:
        return [host_leg]
    known = seen.provider_us is not None
    return [host_leg, Leg(kind=access, site=site, rtt_us=reach_us - host_us, measured=known)]
