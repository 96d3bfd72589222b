"""A report cut down to what pages show of a whole fleet. Pure."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from analytics.findings import is_bad
from analytics.grade import STALE
from analytics.letters import BAD
from analytics.measurement import Letter
from analytics.overview import (
    AGENT_PATHS_SHOWN,
    PACKINGS,
    PLACES_SHOWN,
    RUNGS,
    SITE_PAIRS_SHOWN,
    WORST_SHOWN,
    AgentPaths,
    Can,
    LetterCount,
    MatrixCells,
    Metric,
    Overview,
    PathBrief,
    Place,
    SitePaths,
    Worst,
)
from analytics.paths import WORST_FIRST
from analytics.shapes import Member, PathRow, Report, Verdict


def overview_of(report: Report) -> Overview:
    """Cut a report down to what one page shows."""
    bad = sum(is_bad(row) for row in report.paths)
    places = places_of(report.verdict, report.members, report.profile, report.paths)
    return Overview(
        tenant=report.tenant,
        profile=report.profile,
        at_us=report.at_us,
        rules_version=report.rules_version,
        revision=revision_of(report),
        verdict=report.verdict,
        findings=report.findings,
        bad=bad,
        looked_at=bad,
        paths=len(report.paths),
        expected=len(report.members) * (len(report.members) - 1),
        letters=letter_counts(Counter(row.grade.letter for row in report.paths)),
        relayed=sum(row.rung.relayed for row in report.paths),
        places=places[:PLACES_SHOWN],
        places_of=place_counts(report.verdict),
        worst=report.paths[:WORST_SHOWN],
        members=report.members,
    )


def revision_of(report: Report) -> str:
    """Name what a report shows: equal where all but moments and ages is equal."""
    shown = [msgspec.structs.replace(row, age_s=0) for row in report.paths]
    return digest(report.verdict, report.findings, shown, report.members, report.rules_version)


def digest(*parts: object) -> str:
    """A short name of some values."""
    return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=9).hexdigest()


def letter_counts(counts: Mapping[Letter, int]) -> list[LetterCount]:
    """Put counts in order, the worst letter first."""
    return [
        LetterCount(letter=letter, paths=counts[letter]) for letter in WORST_FIRST if counts.get(letter, 0)
    ]


def place_counts(verdict: Verdict) -> dict[str, int]:
    """Count the workplaces of a verdict."""
    return {"cannot": len(verdict.cannot), "unknown": len(verdict.unknown), "can": len(verdict.can)}


def places_of(
    verdict: Verdict, members: Sequence[Member], profile: str, rows: Sequence[PathRow]
) -> list[Place]:
    """Pair each workplace that the verdict names with its worst path from a service; ``rows`` worst first."""
    known = {member.name: member for member in members}
    services = {s.agent: s.name for m in members for s in m.services if s.profile == profile}
    worst: dict[str, tuple[int, PathRow]] = {}
    for rank, path in enumerate(rows):
        if path.src in services:
            worst.setdefault(path.dst, (rank, path))
    groups: tuple[tuple[Can, list[str]], ...] = (
        ("cannot", verdict.cannot),
        ("unknown", verdict.unknown),
        ("can", verdict.can),
    )
    found = []
    for can, names in groups:
        for name in sorted(names, key=lambda name: worst[name][0] if name in worst else len(rows)):
            row = worst[name][1] if name in worst else None
            member = known.get(name) or Member(name=name, site="", online=False)
            found.append(_place(member, can, row, services))
    return found


def _place(member: Member, can: Can, row: PathRow | None, services: Mapping[str, str]) -> Place:
    return Place(
        agent=member.name,
        site=member.site,
        label=member.label,
        online=member.online,
        can=can,
        service="" if row is None else services[row.src],
        row=row,
    )


def in_order(members: Iterable[Member]) -> list[Member]:
    """Order members as the rows and columns of a matrix: by site, then by name."""
    return sorted(members, key=lambda member: (member.site, member.name))


def site_paths_of(report: Report) -> list[SitePaths]:
    """Count a report's paths by pair of sites, those with the most bad ones first, then by name."""
    groups: dict[tuple[str, str], list[PathRow]] = {}
    for row in report.paths:
        groups.setdefault((row.src_site, row.dst_site), []).append(row)
    made = [_site_paths(src, dst, rows) for (src, dst), rows in groups.items()]
    return most_cannot_first(made)


def most_cannot_first(pairs: Iterable[SitePaths]) -> list[SitePaths]:
    """Order pairs of sites, and cut the list."""
    ordered = sorted(pairs, key=lambda pair: (-pair.cannot, pair.src_site, pair.dst_site))
    return ordered[:SITE_PAIRS_SHOWN]


def _site_paths(src_site: str, dst_site: str, rows: Sequence[PathRow]) -> SitePaths:
    counts = Counter(row.rung for row in rows)
    times = sorted(row.rtt_p50_us for row in rows if row.rtt_p50_us is not None)
    return SitePaths(
        src_site=src_site,
        dst_site=dst_site,
        paths=len(rows),
        cannot=sum(row.grade.letter in BAD for row in rows),
        unknown=sum(row.grade.letter is Letter.UNKNOWN for row in rows),
        rungs={rung.value: counts[rung] for rung in RUNGS if counts[rung]},
        rtt_p50_us=times[(len(times) - 1) // 2] if times else None,
    )


# --- the matrix ---------------------------------------------------------------------------------------------

_FORMATS: Final = {1: "B", 2: "H", 4: "I"}
_CODES: Final = {rung: code for code, rung in enumerate(RUNGS)}
VALUES: Final[Mapping[Metric, Callable[[PathRow], int | None]]] = {
    Metric.LETTER: lambda row: ord(row.grade.letter.value),
    Metric.RTT: lambda row: row.rtt_p50_us,
    Metric.LOSS: lambda row: row.loss_bp,
    Metric.LOSS_BACK: lambda row: row.loss_back_bp,
    Metric.RUNG: lambda row: _CODES[row.rung],
    Metric.AGE: lambda row: row.age_s,
}


def packed(row: PathRow, metric: Metric) -> int:
    """One cell: a value that does not fit is the greatest that does."""
    value, packing = VALUES[metric](row), PACKINGS[metric]
    return packing.none if value is None else min(value, packing.most)


def cells_of(report: Report, metric: Metric) -> MatrixCells:
    """Pack one metric of a report."""
    ordered, packing = in_order(report.members), PACKINGS[metric]
    at = {member.name: place for place, member in enumerate(ordered)}
    cells = [packing.none] * len(ordered) ** 2
    for row in report.paths:
        cells[at[row.src] * len(ordered) + at[row.dst]] = packed(row, metric)
    return MatrixCells(
        profile=report.profile,
        metric=metric,
        at_us=report.at_us,
        revision=revision_of(report),
        agents=[member.name for member in ordered],
        sites=[member.site for member in ordered],
        rungs=[rung.value for rung in RUNGS],
        packing=packing,
        cells=struct.pack(f"<{len(cells)}{_FORMATS[packing.cell_bytes]}", *cells),
    )


# --- one agent ----------------------------------------------------------------------------------------------


def agent_paths_of(report: Report, agent: str, limit: int = AGENT_PATHS_SHOWN) -> AgentPaths:
    """Take one agent's paths out of a report, which are worst first already."""
    out = [row for row in report.paths if row.src == agent]
    into = [row for row in report.paths if row.dst == agent]
    return AgentPaths(
        agent=agent,
        profile=report.profile,
        at_us=report.at_us,
        revision=revision_of(report),
        out=[brief(row) for row in out[:limit]],
        into=[brief(row) for row in into[:limit]],
        out_of=len(out),
        into_of=len(into),
        out_letters=letter_counts(Counter(row.grade.letter for row in out)),
        into_letters=letter_counts(Counter(row.grade.letter for row in into)),
    )


def brief(row: PathRow) -> PathBrief:
    """Shorten a row."""
    return PathBrief(
        src=row.src,
        dst=row.dst,
        src_site=row.src_site,
        dst_site=row.dst_site,
        letter=row.grade.letter,
        outcome=row.grade.outcome,
        unit=row.grade.unit,
        rung=row.rung,
        rtt_p50_us=row.rtt_p50_us,
        loss_bp=row.loss_bp,
        loss_back_bp=row.loss_back_bp,
        age_s=row.age_s,
        stale=row.grade.rule == STALE,
    )


def worst_of(report: Report, limit: int = WORST_SHOWN, start: int = 0) -> Worst:
    """Cut a piece out of the ranked list."""
    end = start + limit
    return Worst(
        profile=report.profile,
        at_us=report.at_us,
        revision=revision_of(report),
        rows=report.paths[start:end],
        next=end if end < len(report.paths) else None,
        listed=len(report.paths),
        paths=len(report.paths),
    )
