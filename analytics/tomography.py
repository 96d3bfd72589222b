"""One cause behind many bad paths: a host, a site's uplink, a region, the relay, or the way between two.

Every path crosses a few such parts. A part that is at fault makes nearly all paths through it bad, one that
is sound few; so each part has a likelihood (``BAD_IF_FAULTY``, ``BAD_IF_SOUND``), and what a path's own hops
say of where the time was added counts beside it. The likeliest part explains its bad paths; what is left is
explained by the next. Confidence is the odds against the other parts that would explain most of the same
paths.

Binary tomography by greedy cover, after Duffield, "Network Tomography of Binary Network Performance
Characteristics", IEEE Trans. Information Theory 52(12), 2006. All counts of a part are sums over
agents and over pairs of sites, so a million paths are counted and not looked at one by one. Pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from operator import itemgetter
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
    REGION = "region"
    RELAY = "relay"
    TRANSIT = "transit"


class Part(NamedTuple):
    """One thing that paths cross; ``where`` is an agent, a site, a region, or two sites."""

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


Ends = tuple[str, str]
"""A directed path: ``Pair``, or a plain tuple."""


def region_of(site: str) -> str:
    """The region that a site's name says: 'east' of 'east.clinic-3'; empty where it says none."""
    return site.rpartition(".")[0]


def parts_of(pair: Ends, sites: Mapping[str, str], relayed: Collection[Ends]) -> list[Part]:
    """The parts that a path crosses."""
    src, dst = pair
    hosts = [Part(Kind.HOST, src), Part(Kind.HOST, dst)]
    return [*hosts, *_between(sites[src], sites[dst], relayed=pair in relayed)]


@lru_cache(maxsize=1 << 16)  # a hundred sites have ten thousand pairs, and each is asked for many times
def _between(src: str, dst: str, *, relayed: bool) -> tuple[Part, ...]:
    """The parts between two sites: none within one."""
    if src == dst:
        return ()
    way = Part(Kind.RELAY, "") if relayed else Part(Kind.TRANSIT, " and ".join(sorted((src, dst))))
    regions = {region_of(src), region_of(dst)}
    out = [Part(Kind.REGION, region) for region in regions if region] if len(regions) > 1 else []
    return (Part(Kind.UPLINK, src), Part(Kind.UPLINK, dst), way, *out)


def through(measured: Iterable[Ends], sites: Mapping[str, str], relayed: Collection[Ends]) -> Counter[Part]:
    """How many measured paths cross each part."""
    paths = list(measured)
    by_relay = [pair for pair in paths if pair in relayed] if relayed else []
    return counted(
        Counter(chain.from_iterable(paths)), _site_pairs(paths, sites), _site_pairs(by_relay, sites)
    )


def counted(ends: Counter[str], between: Counter[Ends], relayed: Counter[Ends]) -> Counter[Part]:
    """How many paths cross each part: from paths by agent, by pair of sites, and those through a relay."""
    counts = Counter({Part(Kind.HOST, agent): count for agent, count in ends.items()})
    for (src, dst), count in between.items():
        by_relay = relayed[src, dst]
        for is_relayed, of in ((True, by_relay), (False, count - by_relay)):
            if of:
                for part in _between(src, dst, relayed=is_relayed):
                    counts[part] += of
    return counts


def _site_pairs(paths: Sequence[Ends], sites: Mapping[str, str]) -> Counter[Ends]:
    """How many paths lead from one site to another."""
    src, dst = (map(sites.__getitem__, map(itemgetter(end), paths)) for end in (0, 1))
    return Counter(zip(src, dst, strict=True))


def causes(
    bad: Sequence[Bad], crossing: Mapping[Part, int], sites: Mapping[str, str], relayed: Collection[Ends]
) -> list[Found]:
    """Explain the bad paths of a cycle by as few parts as the evidence allows, the greatest first.

    ``crossing`` is what ``through`` says of all measured paths. A bad path that no part explains is left out.
    """
    left = {one.pair: one for one in bad}
    aimed = {one.pair: one.points_at for one in bad if _aims(one, sites, relayed)}
    found: list[Found] = []
    while left:
        counts = through(left, sites, relayed)
        pointing = Counter(aimed[pair] for pair in left if pair in aimed)
        silent = _silent(left, sites, relayed) if pointing else counts
        odds = {
            part: _odds(bad=count, crossing=crossing[part], pointing=pointing[part], silent=silent[part])
            for part, count in counts.items()
        }
        best = max(odds, key=lambda part: (odds[part], part))
        if odds[best] < LEAST_ODDS or counts[best] < LEAST_PATHS:
            break
        explained = [one for pair, one in left.items() if crosses(best, pair, sites, relayed)]
        found.append(
            Found(
                part=best,
                explains=sorted(one.pair for one in explained),
                through=crossing[best],
                confidence=_confidence(best, odds, explained, sites, relayed),
                since_us=min(one.since_us for one in explained),
            )
        )
        for one in explained:
            del left[one.pair]
    return found


def crosses(part: Part, pair: Ends, sites: Mapping[str, str], relayed: Collection[Ends]) -> bool:
    """Whether a path crosses a part: as ``parts_of``, without listing them."""
    src, dst = pair
    kind, where = part
    if kind is Kind.HOST:
        return where in pair
    here, there = sites[src], sites[dst]
    if here == there:
        return False
    if kind is Kind.UPLINK:
        return where in (here, there)
    if kind is Kind.REGION:
        return (region_of(here) == where) is not (region_of(there) == where)
    if kind is Kind.RELAY:
        return pair in relayed
    return pair not in relayed and where in (f"{here} and {there}", f"{there} and {here}")


def _aims(one: Bad, sites: Mapping[str, str], relayed: Collection[Ends]) -> bool:
    """Whether a path's hops point at something that it crosses."""
    return one.points_at is not None and crosses(one.points_at, one.pair, sites, relayed)


def _silent(left: Mapping[Pair, Bad], sites: Mapping[str, str], relayed: Collection[Ends]) -> Counter[Part]:
    """Bad paths by part whose hops point at nothing."""
    return through((pair for pair, one in left.items() if one.points_at is None), sites, relayed)


def _odds(*, bad: int, crossing: int, pointing: int, silent: int) -> float:
    """Logarithm of the odds that the part is at fault, on equal terms before.

    Of its ``bad`` paths, the hops of ``pointing`` blame it, those of ``silent`` nothing, all others another.
    """
    elsewhere = bad - pointing - silent
    return bad * _BAD + max(0, crossing - bad) * _GOOD + (pointing - elsewhere) * _HOPS


def _confidence(
    best: Part,
    odds: Mapping[Part, float],
    explained: Sequence[Bad],
    sites: Mapping[str, str],
    relayed: Collection[Ends],
) -> float:
    """The share of the best among the parts that explain at least half of the same paths."""
    shared = through((one.pair for one in explained), sites, relayed)
    rivals = [odds[part] for part, count in shared.items() if part != best and 2 * count >= len(explained)]
    against = sum(math.exp(min(0.0, rival - odds[best])) for rival in rivals)
    return min(MOST_CONFIDENT, 1 / (1 + against))
