"""What a perfect measurement of a lab would say: computed from the cables' settings, never measured.

Pure. A directed path crosses four cables each way (two of its own site, two of the other), or none at all
inside one site. Through the relay it crosses the same cables: the relay stands at the core.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import permutations
from typing import Final

import msgspec

from lab.plan import Host, Plan
from lab.scenario import LineSettings, Nat

PROBE_BYTES: Final = 150  # a probe at the IP layer, DTLS and UDP included: it takes its time on a slow line
DRAWS: Final = 4_001
DRAW_SEED: Final = 1

Settings = Mapping[str, tuple[LineSettings, LineSettings]]
"""Link -> its (up, down)."""


class PathTruth(msgspec.Struct, frozen=True, kw_only=True):
    """One directed path. ``legs`` are the round-trip shares, as the product names them."""

    src: str
    dst: str
    src_site: str
    dst_site: str
    relayed: bool
    rungs: list[str]  # what the ladder may end on
    rtt_base_us: int  # without jitter and queues: the least round trip
    rtt_median_us: int  # of packets that meet no queue
    loss_ppm: int  # src -> dst
    loss_back_ppm: int
    rate_kbps: int  # bottleneck src -> dst; 0 = unlimited
    rate_back_kbps: int
    legs: dict[str, int]  # us
    largest_leg: str
    hops: list[str]  # address per TTL up to the end of the 5-tuple


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """All directed paths of a lab."""

    lab: str
    paths: list[PathTruth]

    def path(self, src: str, dst: str) -> PathTruth:
        """One path; raises ``KeyError``."""
        for path in self.paths:
            if (path.src, path.dst) == (src, dst):
                return path
        raise KeyError((src, dst))


def make_truth(plan: Plan, settings: Settings | None = None) -> Truth:
    """Compute the truth; ``settings`` as the cables have them now, or those of the scenario."""
    now = settings or {link: (both.up.settings, both.down.settings) for link, both in plan.links.items()}
    pairs = permutations(plan.hosts.values(), 2)
    return Truth(lab=plan.lab, paths=[_path(plan, now, src, dst) for src, dst in pairs])


def _path(plan: Plan, now: Settings, src: Host, dst: Host) -> PathTruth:
    forth, back = _lines(now, src, dst), _lines(now, dst, src)
    legs = _legs(now, src, dst)
    base_us = sum(_crossing_us(line) for line in forth + back)
    relayed = _needs_relay(src, dst)
    return PathTruth(
        src=src.agent,
        dst=dst.agent,
        src_site=src.site,
        dst_site=dst.site,
        relayed=relayed,
        rungs=_rungs(src, dst),
        rtt_base_us=base_us,
        rtt_median_us=base_us + _median_jitter_us(tuple(sorted(line.jitter_us for line in forth + back))),
        loss_ppm=_loss_ppm(forth),
        loss_back_ppm=_loss_ppm(back),
        rate_kbps=_bottleneck_kbps(forth),
        rate_back_kbps=_bottleneck_kbps(back),
        legs=legs,
        largest_leg=max(legs, key=lambda leg: legs[leg]),
        hops=_hops(plan, src, dst, relayed=relayed),
    )


def _lines(now: Settings, src: Host, dst: Host) -> list[LineSettings]:
    """The directions of cables that a packet from src to dst crosses, in order."""
    if src.site == dst.site:
        return []
    up = [now[f"{src.site}-uplink"][0], now[f"{src.site}-backbone"][0]]
    down = [now[f"{dst.site}-backbone"][1], now[f"{dst.site}-uplink"][1]]
    return up + down


def _crossing_us(line: LineSettings) -> int:
    serialising_us = PROBE_BYTES * 8_000 / line.rate_kbps if line.rate_kbps else 0
    return line.delay_us + round(serialising_us)


def _round_us(now: Settings, link: str) -> int:
    return sum(_crossing_us(line) for line in now[link])


def _legs(now: Settings, src: Host, dst: Host) -> dict[str, int]:
    inside = src.site == dst.site
    return {
        "source-host": 0,
        "source-access": 0 if inside else _round_us(now, f"{src.site}-uplink"),
        "transit": 0 if inside else sum(_round_us(now, f"{one.site}-backbone") for one in (src, dst)),
        "destination-access": 0 if inside else _round_us(now, f"{dst.site}-uplink"),
        "destination-host": 0,
    }


@cache
def _median_jitter_us(sigmas_us: tuple[int, ...]) -> int:
    """Median of a sum of half-normal jitters, by drawing it: no closed form for more than two."""
    if not any(sigmas_us):
        return 0
    draw = random.Random(DRAW_SEED).gauss
    sums = [sum(abs(draw(0, sigma)) for sigma in sigmas_us) for _ in range(DRAWS)]
    return round(statistics.median(sums))


def _loss_ppm(lines: Sequence[LineSettings]) -> int:
    kept = 1.0
    for line in lines:
        kept *= 1 - line.loss_ppm / 1e6
    return round((1 - kept) * 1e6)


def _bottleneck_kbps(lines: Sequence[LineSettings]) -> int:
    return min((line.rate_kbps for line in lines if line.rate_kbps), default=0)


def _needs_relay(src: Host, dst: Host) -> bool:
    """A symmetric NAT and a gateway that filters by address and port cannot meet directly (RFC 5128)."""
    if src.site == dst.site:
        return False
    kinds = {src.nat, dst.nat}
    return Nat.SYMMETRIC in kinds and Nat.NONE not in kinds


def _rungs(src: Host, dst: Host) -> list[str]:
    if src.site == dst.site:
        return ["lan"]
    if _needs_relay(src, dst):
        return ["relay-udp"]
    return ["lan", "srflx"] if src.nat is dst.nat is Nat.NONE else ["srflx"]


def _hops(plan: Plan, src: Host, dst: Host, *, relayed: bool) -> list[str]:
    """Who answers at which TTL. Routers answer with the address that faces the source."""
    if src.site == dst.site:
        return [dst.address]
    near = [src.gateway_lan, src.provider_customer, src.core_address]
    if relayed:
        return [*near, plan.turn_address]
    # The end is no router: its answer is a reply of the agent, which knows its own address.
    far = [dst.provider_core, dst.gateway_wan, dst.address]
    return [*near, *far]
