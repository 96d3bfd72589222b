"""Which leg of a path added the time, and on the way there or back: what the hops of both ends say together.

Each end sees its own side best (``analytics/legs.py``): a step between its host, its gateway and its provider
is its own leg. A step that each end sees beyond its own side is in transit. Where the two contradict each
other, nothing is said. The direction comes from one-way delays, whose clocks must allow it: the way whose
least delay grew by most of what the round trip gained. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from analytics.added import Added, Place, Silence, added
from analytics.legs import is_private, near_ttls
from analytics.measurement import Hop, LegKind

_OTHER: Final = {"src": "dst", "dst": "src"}
MOST_OF_IT: Final = 0.75
"""Of what the round trip gained: so much on one way names the direction."""

Direction = Literal["forward", "back"]


@dataclass(frozen=True, slots=True)
class OneWay:
    """Least one-way delays, each known to within ``bound_us``; None where the clocks do not tell."""

    forward_us: int | None
    back_us: int | None
    bound_us: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """A path at one time."""

    rtt_us: int  # least
    one_way: OneWay = OneWay(None, None)


@dataclass(frozen=True, slots=True)
class Trace:
    """The hops that one end sees now, and the usual least round trip of each."""

    hops: Sequence[Hop]
    usual: Mapping[Place, int]


@dataclass(frozen=True, slots=True)
class Attribution:
    """The leg that added time."""

    leg: LegKind
    added_us: int
    of_us: int
    direction: Direction | None = None


_OWN: Final = {
    "src": (LegKind.SOURCE_HOST, LegKind.SOURCE_ACCESS),
    "dst": (LegKind.DESTINATION_HOST, LegKind.DESTINATION_ACCESS),
}


def attribute(now: Facts, usual: Facts, *, from_src: Trace, from_dst: Trace) -> Attribution | Silence:
    """Name the leg that added most of what the path gained, or say why none is named."""
    seen = {
        end: added(trace.hops, trace.usual, rtt_us=now.rtt_us, usual_rtt_us=usual.rtt_us)
        for end, trace in (("src", from_src), ("dst", from_dst))
    }
    told = {end: step for end, step in seen.items() if isinstance(step, Added)}
    rerouted = next((one for one in seen.values() if isinstance(one, Silence) and one.rerouted), None)
    if rerouted is not None:
        return rerouted
    if not told:
        return next(one for one in seen.values() if isinstance(one, Silence))
    legs = _legs(told, {"src": from_src.hops, "dst": from_dst.hops})
    own = {end: leg for end, leg in legs.items() if leg not in (None, LegKind.TRANSIT)}
    if len(own) > 1:
        return Silence("the two ends see it at different places")
    if not own and set(legs.values()) != {LegKind.TRANSIT}:
        return Silence("routers are silent where it was added")
    if not own and len(told) < 2:
        return Silence("only one end sees it, beyond its own side")
    end = next(iter(own), "src")
    leg, step = legs[end], told[end]
    assert leg is not None
    return Attribution(leg, step.added_us, step.of_us, direction(now, usual))


def _legs(told: Mapping[str, Added], hops: Mapping[str, Sequence[Hop]]) -> dict[str, LegKind | None]:
    """The leg that each end's step is in; where its own provider is silent, the other end's step decides."""
    legs = {}
    for end, step in told.items():
        other = _OTHER[end]
        legs[end] = _leg(end, step, hops[end])
        if legs[end] is None and other in told:
            reaches = _address(told[other].up_to_ttl, hops[other])
            beyond = not reaches or is_private(reaches)
            legs[end] = _OWN[end][1] if beyond else LegKind.TRANSIT
    return legs


def _address(ttl: int, hops: Sequence[Hop]) -> str:
    """Who answered at a TTL; empty = nobody, or the end."""
    return next((hop.address for hop in hops if hop.ttl == ttl and not hop.is_end), "")


def direction(now: Facts, usual: Facts) -> Direction | None:
    """The way that gained most of the time; None where the clocks do not allow to tell."""
    gained_us = now.rtt_us - usual.rtt_us
    ways: tuple[tuple[Direction, int | None, int | None], ...] = (
        ("forward", now.one_way.forward_us, usual.one_way.forward_us),
        ("back", now.one_way.back_us, usual.one_way.back_us),
    )
    bound_us = now.one_way.bound_us + usual.one_way.bound_us
    for name, here_us, before_us in ways:
        if here_us is None or before_us is None or 2 * bound_us > gained_us:
            continue
        if here_us - before_us >= MOST_OF_IT * gained_us:
            return name
    return None


def _leg(end: str, step: Added, hops: Sequence[Hop]) -> LegKind | None:
    """The leg of this end's own side that a step is in, else transit; None where a silent one hides it."""
    gateway, provider = near_ttls(hops)
    host, access = _OWN[end]
    if step.up_to_ttl <= gateway:
        return host
    if provider is None:
        return None if step.after_ttl <= gateway else LegKind.TRANSIT
    return access if step.up_to_ttl <= provider else LegKind.TRANSIT
