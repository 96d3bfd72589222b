"""One finding per cause: the bad paths of a report, explained by what they share, in a sentence. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Final

from analytics import words
from analytics.cause import blamed_leg
from analytics.grammar import called
from analytics.letters import BAD
from analytics.measurement import LegKind, Rung
from analytics.shapes import Finding, Member, PathRow
from analytics.tomography import Bad, Found, Kind, Pair, Part, causes, counted

_SOURCE: Final = frozenset({LegKind.SOURCE_HOST, LegKind.SOURCE_ACCESS})
_HOST: Final = frozenset({LegKind.SOURCE_HOST, LegKind.DESTINATION_HOST})


def findings(
    rows: Sequence[PathRow],
    members: Sequence[Member],
    *,
    crossing: Callable[[], Counter[Part]] | None = None,
    bad_of: int | None = None,
) -> list[Finding]:
    """Explain the paths that people cannot work over, or that became slower than usual.

    Where ``rows`` are the worst of a large fleet only, ``crossing`` counts what crosses each part, of all its
    paths but the bad ones that are not among ``rows``, and ``bad_of`` is how many bad ones there are.
    """
    sites = {member.name: member.site for member in members}
    bad = {Pair(row.src, row.dst): row for row in rows if is_bad(row)}
    if not bad:
        return []  # most reports: no need to count what every path crosses
    by_relay = [row for row in rows if row.rung in RELAYED]
    counts = _crossing(rows, by_relay) if crossing is None else crossing()
    relayed = frozenset(map(_ENDS, by_relay))
    told = [Bad(pair, row.slower_since_us or 0, _points_at(row)) for pair, row in bad.items()]
    return [_finding(found, bad, members, bad_of) for found in causes(told, counts, sites, relayed)]


def _crossing(rows: Sequence[PathRow], by_relay: Sequence[PathRow]) -> Counter[Part]:
    return counted(
        Counter(chain(map(_SRC, rows), map(_DST, rows))),
        Counter(map(_SITES, rows)),
        Counter(map(_SITES, by_relay)),
    )


RELAYED: Final = frozenset(rung for rung in Rung if rung.relayed)
_SRC, _DST = attrgetter("src"), attrgetter("dst")
_ENDS, _SITES = attrgetter("src", "dst"), attrgetter("src_site", "dst_site")


def is_bad(row: PathRow) -> bool:
    """Whether people cannot work over a path, or it is slower than usual."""
    return row.grade.letter in BAD or row.slower_since_us is not None


def _points_at(row: PathRow) -> Part | None:
    """The part that the path's own hops blame."""
    leg = row.added or blamed_leg(row)
    if leg is None:
        return None
    if leg.kind is LegKind.TRANSIT:
        return _part(Kind.RELAY, "") if row.rung in RELAYED else _way(row.src_site, row.dst_site)
    agent, site = (row.src, row.src_site) if leg.kind in _SOURCE else (row.dst, row.dst_site)
    return _part(Kind.HOST, agent) if leg.kind in _HOST else _part(Kind.UPLINK, site)


def _way(one: str, other: str) -> Part:
    return _part(Kind.TRANSIT, " and ".join(sorted((one, other))))


_part: Final = lru_cache(maxsize=1 << 16)(Part)
"""Thousands of paths point at the same few."""


def _finding(
    found: Found, bad: dict[Pair, PathRow], members: Sequence[Member], bad_of: int | None
) -> Finding:
    since = [us for pair in found.explains if (us := bad[pair].slower_since_us) is not None]
    percent = round(100 * found.confidence)
    of = f"{len(bad)}" if bad_of in (None, len(bad)) else f"the {len(bad):,} worst of {bad_of:,}"
    explains = f"explains {len(found.explains)} of {of} bad paths (confidence {percent} %)."
    return Finding(
        kind=found.part.kind.value,
        where=found.part.where,
        explains=[(pair.src, pair.dst) for pair in found.explains],
        bad=len(bad),
        through=found.through,
        confidence_percent=percent,
        since_us=min(since, default=None),
        sentence=f"{words.capital(_called(found.part, members))} {explains}",
    )


def cause_name(finding: Finding, members: Sequence[Member]) -> str:
    """Name the cause within a sentence: 'the hotel's uplink'."""
    return _called(Part(Kind(finding.kind), finding.where), members)


def _called(part: Part, members: Sequence[Member]) -> str:
    label = next((member.label for member in members if member.name == part.where), "")
    return {
        Kind.HOST: f"the host of {called(label, part.where)}",
        Kind.UPLINK: f"the {part.where}'s uplink",
        Kind.REGION: f"the region {part.where}",
        Kind.RELAY: "the relay",
        Kind.TRANSIT: f"the way between {part.where}",
    }[part.kind]
