"""Which part of a path ADDED the time: the difference of each hop to what is usual there.

A router that answers late answers as late as ever, so in the difference its own slowness cancels. What a hop
gained counts for no more than what every later hop, and the end, gained too (the suffix-min envelope of the
differences): a router that is busy answering is not a router that is slow to forward. The largest step of
that envelope is where the time was added, if it makes up at least half of it.

Silence where the evidence does not carry: another router stands at a place than usual (then the path
changed, and that is what is said), no hop answered before the step, or no step is large enough. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from analytics.measurement import Hop

SHARE: Final = 0.5

Place = tuple[int, str]
"""A hop's TTL and address."""


@dataclass(frozen=True, slots=True)
class Added:
    """Between which two hops time was added. TTL 0 is the source itself; the end's hop is the path's end."""

    after_ttl: int
    up_to_ttl: int
    added_us: int  # there
    of_us: int  # on the whole path


@dataclass(frozen=True, slots=True)
class Silence:
    """Why no place is named."""

    why: str
    rerouted: bool = False


def added(
    hops: Sequence[Hop],
    usual: Mapping[Place, int],
    *,
    rtt_us: int,
    usual_rtt_us: int,
) -> Added | Silence:
    """Find the step between two hops of one trace; ``usual`` has the usual least round trip of each hop.

    ``rtt_us`` is the least round trip of the whole path now, ``usual_rtt_us`` the usual one.
    """
    gained_us = rtt_us - usual_rtt_us
    if gained_us <= 0:
        return Silence("the path is no slower than usual")
    routers = sorted((hop for hop in hops if hop.rtt_min_us is not None and not hop.is_end), key=_ttl)
    if any(_replaced(hop, usual) for hop in routers):
        return Silence("the route changed", rerouted=True)
    known = [(hop.ttl, (hop.rtt_min_us or 0) - usual[_place(hop)]) for hop in routers if _place(hop) in usual]
    if not known:
        return Silence("no router answers now and usually")
    end_ttl = max(max((hop.ttl for hop in hops), default=0), known[-1][0] + 1)
    steps = _steps([(0, 0), *known, (end_ttl, gained_us)])
    largest = max(steps, key=lambda step: step.added_us)
    if largest.added_us < SHARE * gained_us:
        return Silence("no single part of the path explains it")
    return largest


def _steps(gains: Sequence[tuple[int, int]]) -> list[Added]:
    """What each part added: from the gains by TTL, the end's last, to differences of their suffix-min."""
    of_us = least_us = gains[-1][1]
    envelope = []
    for ttl, gain_us in reversed(gains):
        least_us = min(least_us, max(0, gain_us))
        envelope.append((ttl, least_us))
    envelope.reverse()
    return [Added(before, ttl, up_us - us, of_us) for (before, us), (ttl, up_us) in pairwise(envelope)]


def _replaced(hop: Hop, usual: Mapping[Place, int]) -> bool:
    """Another router answers here than usual."""
    here = {address for ttl, address in usual if ttl == hop.ttl}
    return bool(here) and hop.address not in here


def _place(hop: Hop) -> Place:
    return hop.ttl, hop.address


def _ttl(hop: Hop) -> int:
    return hop.ttl
