"""One cause behind many bad paths: an agent's host, a site's uplink, the relay, or the way between two sites.

Every path crosses a few such parts. A part that is at fault makes nearly all paths through it bad, one that
is sound few; so each part has a likelihood (``BAD_IF_FAULTY``, ``BAD_IF_SOUND``), and what a path's own hops
say of where the time was added counts beside it. The likeliest part explains its bad paths; what is left is
explained by the next. Confidence is the odds against the other parts that would explain most of the same
paths.

Binary tomography by greedy cover, after Duffield, "Network Tomography of Binary Network Performance
Characteristics", IEEE Trans. Information Theory 52(12), 2006. Work grows with the bad paths, not with all.
Pure.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

BAD_IF_FAULTY: Final = 0.95
BAD_IF_SOUND: Final = 0.02
HOPS_RIGHT: Final = 0.9
"""How often what the hops say is right: 87 to 99 % in simulations (findings, grading-design section 6)."""
LEAST_ODDS: Final = math.log(20)
LEAST_PATHS: Final = 2
"""A single path is its own finding."""
MOST_CONFIDENT: Final = 0.99

_BAD: Final = math.log(BAD_IF_FAULTY / BAD_IF_SOUND)
_GOOD: Final = math.log((1 - BAD_IF_FAULTY) / (1 - BAD_IF_SOUND))
_HOPS: Final = math.log(HOPS_RIGHT / (1 - HOPS_RIGHT))


class Kind(StrEnum):
    """What may be at fault."""

    HOST = "host"
    UPLINK = "uplink"
    RELAY = "relay"
    TRANSIT = "transit"


class Part(NamedTuple):
    """One thing that paths cross; ``where`` is an agent, a site, or two sites."""

    kind: Kind
    where: str


class Pair(NamedTuple):
    """A directed path."""

    src: str
    dst: str


@dataclass(frozen=True, slots=True)
class Bad:
    """A path that is bad, and the part that its hops point at, if they do."""

    pair: Pair
    since_us: int
    points_at: Part | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A part that explains bad paths."""

    part: Part
    explains: Sequence[Pair]
    through: int  # measured paths through the part
    confidence: float  # 0..1
    since_us: int


def parts_of(pair: Pair, sites: Mapping[str, str], relayed: frozenset[Pair]) -> list[Part]:
    """The parts that a path crosses."""
    ends = (sites[pair.src], sites[pair.dst])
    hosts = [Part(Kind.HOST, pair.src), Part(Kind.HOST, pair.dst)]
    if ends[0] == ends[1]:
        return hosts
    between = Part(Kind.RELAY, "") if pair in relayed else Part(Kind.TRANSIT, " and ".join(sorted(ends)))
    return [*hosts, Part(Kind.UPLINK, ends[0]), Part(Kind.UPLINK, ends[1]), between]


def through(measured: Iterable[Pair], sites: Mapping[str, str], relayed: frozenset[Pair]) -> Counter[Part]:
    """How many measured paths cross each part."""
    return Counter(part for pair in measured for part in parts_of(pair, sites, relayed))


def causes(
    bad: Sequence[Bad], crossing: Mapping[Part, int], sites: Mapping[str, str], relayed: frozenset[Pair]
) -> list[Found]:
    """Explain the bad paths of a cycle by as few parts as the evidence allows, the greatest first.

    ``crossing`` is what ``through`` says of all measured paths. A bad path that no part explains is left out.
    """
    left = {one.pair: one for one in bad}
    crossed = {pair: parts_of(pair, sites, relayed) for pair in left}
    found: list[Found] = []
    while True:
        by_part: defaultdict[Part, list[Bad]] = defaultdict(list)
        for pair, one in left.items():
            for part in crossed[pair]:
                by_part[part].append(one)
        odds = {part: _odds(part, own, crossing[part]) for part, own in by_part.items()}
        best = max(odds, key=lambda part: (odds[part], part), default=None)
        if best is None or odds[best] < LEAST_ODDS or len(by_part[best]) < LEAST_PATHS:
            return found
        explained = by_part[best]
        found.append(
            Found(
                part=best,
                explains=sorted(one.pair for one in explained),
                through=crossing[best],
                confidence=_confidence(best, odds, by_part),
                since_us=min(one.since_us for one in explained),
            )
        )
        for one in explained:
            del left[one.pair]


def _odds(part: Part, bad: Sequence[Bad], crossing: int) -> float:
    """Logarithm of the odds that the part is at fault, on equal terms before."""
    pointing = sum(one.points_at == part for one in bad)
    elsewhere = sum(one.points_at not in (None, part) for one in bad)
    return len(bad) * _BAD + max(0, crossing - len(bad)) * _GOOD + (pointing - elsewhere) * _HOPS


def _confidence(best: Part, odds: Mapping[Part, float], bad: Mapping[Part, Sequence[Bad]]) -> float:
    """The share of the best among the parts that explain at least half of the same paths."""
    own = {one.pair for one in bad[best]}
    rivals = [
        odds[part]
        for part, others in bad.items()
        if part != best and 2 * len(own & {one.pair for one in others}) >= len(own)
    ]
    against = sum(math.exp(min(0.0, rival - odds[best])) for rival in rivals)
    return min(MOST_CONFIDENT, 1 / (1 + against))
