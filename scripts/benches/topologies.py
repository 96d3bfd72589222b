"""Random paths for the bench of the legs, by one seed; what is true is known.

Routers answer late, lose answers, or do not answer at all; ways back have lengths of their own; one leg gets
slower, or none.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from analytics.added import Place
from analytics.attribution import Facts, OneWay, Trace
from analytics.measurement import Hop, LegKind

ROUNDS: Final = 6
"""Probes to each hop in a test, as the product's plan."""
TESTS: Final = 12
"""Tests that what is usual is made of: the median of their least round trips."""
NEAR: Final = 2  # gateway and provider at each end
CLOCK_BOUND_US: Final = 1_500
SLOW_SHARE: Final = 0.2  # routers that answer late
ASYMMETRIC_SHARE: Final = 0.1  # routers whose way back is longer
SILENT_SHARE: Final = 0.15
LOSSY_SHARE: Final = 0.3
QUEUE_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class Router:
    """What one router adds to its answers."""

    address: str
    late_us: float
    back_us: float
    answers: float  # chance


@dataclass(frozen=True, slots=True)
class Topology:
    """One path: round trips of its links, source first, and the routers as each end sees them."""

    links_us: Sequence[float]
    from_src: Sequence[Router]
    from_dst: Sequence[Router]


@dataclass(frozen=True, slots=True)
class Fault:
    """Which leg gets slower, by how much, on which way."""

    leg: LegKind
    link: int
    added_us: float
    way: Literal["forward", "back"]


def topology(draw: random.Random) -> Topology:
    """Make a path with 1 to 7 routers between the two providers."""
    core = draw.randint(1, 7)
    links = [draw.gammavariate(1, 3_000) for _ in range(2 * NEAR + core + 1)]
    links[draw.randrange(len(links))] += draw.uniform(5_000, 40_000)
    public = [f"203.0.113.{n}" for n in range(1, core + 3)]
    src = ["192.168.7.1", *public, "10.20.0.1"]
    return Topology(links, [_router(draw, one) for one in src], [_router(draw, one) for one in reversed(src)])


def _router(draw: random.Random, address: str) -> Router:
    near = address.startswith(("192.168", "10."))
    late = 0.0 if near or draw.random() > SLOW_SHARE else draw.uniform(2_000, 15_000)
    back = 0.0 if near or draw.random() > ASYMMETRIC_SHARE else draw.uniform(0, 25_000)
    silent = not near and draw.random() < SILENT_SHARE
    answers = 0.0 if silent else 0.5 if draw.random() < LOSSY_SHARE else 1.0
    return Router(address, late, back, answers)


def fault(draw: random.Random, path: Topology) -> Fault:
    """Choose a leg and make it slower by 8 to 40 ms."""
    last = len(path.links_us) - 1
    leg, link = draw.choice(
        [
            (LegKind.SOURCE_HOST, 0),
            (LegKind.SOURCE_ACCESS, 1),
            (LegKind.TRANSIT, draw.randint(NEAR, last - NEAR)),
            (LegKind.DESTINATION_ACCESS, last - 1),
            (LegKind.DESTINATION_HOST, last),
        ]
    )
    return Fault(leg, link, draw.uniform(8_000, 40_000), draw.choice(("forward", "back")))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a test of a path says."""

    facts: Facts
    from_src: list[Hop]
    from_dst: list[Hop]


def test(draw: random.Random, path: Topology, wrong: Fault | None, clock_us: float) -> Seen:
    """Measure a path once; ``clock_us`` is what the ends' clocks are apart, less than their bound."""
    links = list(path.links_us)
    if wrong is not None:
        links[wrong.link] += wrong.added_us
    rtt_us = round(sum(links) + min(_queue(draw) for _ in range(50 * ROUNDS)))
    half = sum(path.links_us) / 2
    forth = half + (wrong.added_us if wrong and wrong.way == "forward" else 0) + clock_us
    back = half + (wrong.added_us if wrong and wrong.way == "back" else 0) - clock_us
    one_way = OneWay(round(max(0, forth)), round(max(0, back)), CLOCK_BOUND_US)
    src = _trace(draw, links, path.from_src, "src", "dst")
    dst = _trace(draw, links[::-1], path.from_dst, "dst", "src")
    return Seen(Facts(rtt_us, one_way), src, dst)


def _trace(
    draw: random.Random, links: Sequence[float], routers: Sequence[Router], src: str, dst: str
) -> list[Hop]:
    hops, so_far = [], 0.0
    for ttl, (link, router) in enumerate(zip(links, routers, strict=False), start=1):
        so_far += link
        rtts = [
            so_far
            + router.back_us
            + 0.3 * router.late_us
            + draw.expovariate(1) * router.late_us
            + _queue(draw)
            for _ in range(ROUNDS)
            if draw.random() < router.answers
        ]
        hops.append(_hop(ttl, router.address if rtts else "", rtts, src, dst))
    return hops


def _queue(draw: random.Random) -> float:
    return draw.expovariate(1 / QUEUE_US) if draw.random() < 0.5 else 0.0


def _hop(ttl: int, address: str, rtts: Sequence[float], src: str, dst: str) -> Hop:
    return Hop(
        tenant="default",
        cycle=0,
        test="t",
        src=src,
        dst=dst,
        ttl=ttl,
        address=address,
        sent=ROUNDS,
        answered=len(rtts),
        rtt_min_us=round(min(rtts)) if rtts else None,
    )


def usual_of(seen: Sequence[Seen]) -> tuple[Facts, dict[Place, int], dict[Place, int]]:
    """Reduce earlier tests to what is usual: medians."""
    facts = Facts(
        _median([one.facts.rtt_us for one in seen]),
        OneWay(
            _median([one.facts.one_way.forward_us or 0 for one in seen]),
            _median([one.facts.one_way.back_us or 0 for one in seen]),
            CLOCK_BOUND_US,
        ),
    )
    return facts, _usual_hops([one.from_src for one in seen]), _usual_hops([one.from_dst for one in seen])


def _usual_hops(traces: Sequence[Sequence[Hop]]) -> dict[Place, int]:
    by_place: dict[Place, list[int]] = {}
    for trace in traces:
        for hop in trace:
            if hop.rtt_min_us is not None:
                by_place.setdefault((hop.ttl, hop.address), []).append(hop.rtt_min_us)
    return {place: _median(values) for place, values in by_place.items()}


def _median(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2]


def traces(seen: Seen, src: dict[Place, int], dst: dict[Place, int]) -> tuple[Trace, Trace]:
    """As ``attribute`` takes them."""
    return Trace(seen.from_src, src), Trace(seen.from_dst, dst)
