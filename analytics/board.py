"""The board of a large fleet at a moment: what its report would say, with rows for the worst paths. Pure.

READ FIRST: ``Board``, ``choose``, ``shown``. All paths are graded as columns (``analytics/ranking``) and
counted from there. Full rows (legs, sessions, what is usual) are built for a bounded choice: paths from
services of the profile, paths that are watched, slower, or used by applications, and the worst. Where such a
row has another letter than the columns (it holds, or it is of applications' sessions), the row's counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from analytics import cut
from analytics.ends import with_ends
from analytics.findings import findings, is_bad
from analytics.kinds.table import kind_of
from analytics.letters import BAD
from analytics.measurement import Letter
from analytics.overview import (
    AGENT_PATHS_SHOWN,
    PACKINGS,
    PLACES_SHOWN,
    RUNGS,
    WORST_SHOWN,
    AgentPaths,
    MatrixCells,
    Metric,
    Overview,
    SitePaths,
    Worst,
)
from analytics.paths import WORST_FIRST
from analytics.ranking.dense import Dense
from analytics.rules.load import Rules
from analytics.shapes import Member, PathRow, Report
from analytics.tomography import Part
from analytics.verdict import NOW, Rest, verdict

SERVICE_ROWS: Final = 2_000
"""Rows for paths from services, for each profile: the worst ones."""
BAD_ROWS: Final = 2_000
"""Rows for the worst paths of all, for each profile."""
MISSING_SHOWN: Final = 1_000

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Shown:
    """One profile."""

    overview: Overview
    rows: Sequence[PathRow]  # worst first; those up to ``listed`` are the worst of all
    listed: int
    sites: Sequence[SitePaths]


@dataclass(frozen=True)
class Board:
    """All that is shown of a large fleet, at one moment. Never changed once it is made."""

    tenant: str
    at_us: int
    members: Sequence[Member]  # by name
    rules: Rules
    dense: Dense = field(repr=False)
    profiles: Mapping[str, Shown] = field(repr=False)

    def revision(self, profile: str) -> str:
        """Name what is shown."""
        return self.profiles[profile].overview.revision

    def cells(self, profile: str, metric: Metric) -> MatrixCells:
        """Pack one metric."""
        return MatrixCells(
            profile=profile,
            metric=metric,
            at_us=self.at_us,
            revision=self.revision(profile),
            agents=list(self.dense.agents),
            sites=list(self.dense.sites),
            rungs=[rung.value for rung in RUNGS],
            packing=PACKINGS[metric],
            cells=self.dense.shown(profile, metric),
        )

    def agent_paths(self, agent: str, profile: str, limit: int = AGENT_PATHS_SHOWN) -> AgentPaths:
        """List one agent's paths, worst first."""
        kind = kind_of(self.rules.profile(profile))
        return self.dense.of_agent(
            agent,
            profile,
            unit=kind.unit,
            better=-1 if kind.higher_is_better else 1,
            revision=self.revision(profile),
            stale_after_s=self.rules.stale_after_s,
            limit=limit,
        )

    def worst(self, profile: str, limit: int = WORST_SHOWN, start: int = 0) -> Worst:
        """Cut a piece out of the ranked list."""
        told, end = self.profiles[profile], start + limit
        return Worst(
            profile=profile,
            at_us=self.at_us,
            revision=told.overview.revision,
            rows=list(told.rows[start : min(end, told.listed)]),
            next=end if end < told.listed else None,
            listed=told.listed,
            paths=told.overview.paths,
        )

    def report(self, profile: str) -> Report:
        """Tell what there are rows for, as a report."""
        told = self.profiles[profile]
        return Report(
            tenant=self.tenant,
            profile=profile,
            at_us=self.at_us,
            rules_version=self.rules.version,
            verdict=told.overview.verdict,
            findings=told.overview.findings,
            paths=list(told.rows),
            members=list(self.members),
            missing=self._missing(profile),
            paths_of=told.overview.paths,
        )

    def _missing(self, profile: str) -> list[Pair]:
        """The first pairs that nothing is known of."""
        letters, agents, found = self.dense.letters[profile], self.dense.agents, list[Pair]()
        at = letters.find(b" ")
        while at >= 0 and len(found) < MISSING_SHOWN:
            src, dst = divmod(at, len(agents))
            if src != dst:
                found.append((agents[src], agents[dst]))
            at = letters.find(b" ", at + 1)
        return found


def choose(
    profile: str,
    members: Sequence[Member],
    dense: Dense,
    *,
    worst: Sequence[Pair],
    changed: Collection[Pair],
) -> dict[Pair, None]:
    """Choose the paths that get a row, in order of their right to one, each with its way back.

    ``worst`` are the worst by the columns, ``changed`` those that columns do not tell all of.
    """
    chosen = [*changed, *served(profile, members, dense), *worst]
    return dict.fromkeys(pair for src, dst in chosen for pair in ((src, dst), (dst, src)))


def served(profile: str, members: Sequence[Member], dense: Dense) -> list[Pair]:
    """Paths from services of a profile, those of people who cannot first, then those not known."""
    services = {service.agent for m in members for service in m.services if service.profile == profile}
    pairs = [
        (letter, (agent, member.name))
        for agent in sorted(services)
        for member in members
        if member.name not in services and (letter := dense.letter(profile, agent, member.name)) is not None
    ]
    pairs.sort(key=lambda one: (_TOLD_FIRST[one[0]], one[1]))
    return [pair for _, pair in pairs[:SERVICE_ROWS]]


_TOLD_FIRST: Final = {
    letter: (0 if letter in BAD else 1 if letter is Letter.UNKNOWN else 2, rank)
    for rank, letter in enumerate(WORST_FIRST)
}


def shown(
    profile: str,
    rows: Sequence[PathRow],
    dense: Dense,
    *,
    tenant: str,
    members: Sequence[Member],
    rules: Rules,
    worst: Sequence[Pair],
    sites: Sequence[SitePaths],
    crossing: Callable[[Sequence[PathRow]], Counter[Part]],
    when: str = NOW,
) -> tuple[Shown, Dense]:
    """Show a fleet for one profile; ``rows`` worst first. Returns the columns with the rows' letters too."""
    if rows:
        dense = dense.with_rows(profile, rows)
    counts = dense.counts(profile)
    looked = [row for row in rows if is_bad(row)]
    bad = sum(counts[letter] for letter in BAD) + sum(row.grade.letter not in BAD for row in looked)
    found = findings(rows, members, crossing=lambda: crossing(looked), bad_of=bad)
    rest = Rest(
        counts - Counter(row.grade.letter for row in rows),
        lambda src, dst: dense.letter(profile, src, dst),
    )
    said = with_ends(verdict(profile, members, rows, rules, found, rest=rest, when=when), rows)
    listed = _listed(rows, worst)
    overview = Overview(
        tenant=tenant,
        profile=profile,
        at_us=dense.at_us,
        rules_version=rules.version,
        revision=cut.digest(said, found, dense.digest(profile), members, rules.version),
        verdict=said,
        findings=found,
        bad=bad,
        looked_at=len(looked),
        paths=counts.total(),
        expected=len(members) * (len(members) - 1),
        letters=cut.letter_counts(counts),
        relayed=dense.relayed(profile),
        places=cut.places_of(said, members, profile, rows)[:PLACES_SHOWN],
        places_of=cut.place_counts(said),
        worst=list(rows[: min(listed, WORST_SHOWN)]),
        members=list(members),
    )
    return Shown(overview, rows, listed, sites), dense


def _listed(rows: Sequence[PathRow], worst: Sequence[Pair]) -> int:
    """Up to where no path without a row is worse than one with a row: the last of the worst."""
    chosen = frozenset(worst)
    last = next((at for at in range(len(rows) - 1, -1, -1) if (rows[at].src, rows[at].dst) in chosen), -1)
    return last + 1
