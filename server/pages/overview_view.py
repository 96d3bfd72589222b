"""What the front page shows, laid out from an ``Overview``: pure, no HTML, no clock.

READ FIRST: ``overview_view``. On top one sentence, under it a card per cause, then who can and who cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from analytics.findings import cause_name
from analytics.grammar import names
from analytics.measurement import Letter
from analytics.overview import Overview, Place
from analytics.shapes import Finding, Member, PathRow
from analytics.words import capital
from server.pages import text
from server.pages.views import Matrix, PathLine, path_line

MATRIX_MOST: Final = 14
"""Agents whose letters fit beside the people; a larger fleet's are on the page of their own."""
ROWS_SHOWN: Final = 60
"""Of the worst paths, until more are asked for."""
PLACES_SHOWN: Final = {"cannot": 30, "unknown": 10, "can": 10}
"""Workplaces of each kind, until more are asked for."""
DETAILS_SHOWN: Final = 4
AFFECTED_SHOWN: Final = 3

KIND: Final = {
    "host": "Host",
    "uplink": "Uplink",
    "region": "Region",
    "relay": "Relay",
    "transit": "Between sites",
}
MARK: Final = {"cannot": "cannot work", "unknown": "not known", "can": "can work"}


@dataclass(frozen=True, slots=True)
class Card:
    """One cause."""

    key: str  # the same for the same cause
    kind: str  # "Uplink"
    name: str  # "The hotel's uplink"
    finding: Finding
    affected: str  # "The radiologist cannot work"; empty where no workplace is kept from working
    worst: tuple[str, str]  # the worst path that it explains


@dataclass(frozen=True, slots=True)
class Workplace:
    """One workplace and the path that decides about it."""

    place: Place
    line: PathLine | None


@dataclass(frozen=True, slots=True)
class Share:
    """How many paths have a letter, and their part of a bar of 1,000 units."""

    letter: Letter
    paths: int
    x: int
    width: int


@dataclass(frozen=True, slots=True)
class OverviewView:
    """The page ``/``."""

    overview: Overview
    cards: list[Card]
    details: list[str]
    workplaces: list[Workplace]
    more_places: list[str]  # "412 more can work"
    shares: list[Share]
    matrix: Matrix | None
    lines: list[PathLine]


def overview_view(overview: Overview, *, everything: bool = False) -> OverviewView:
    """Lay a front page out; with everything that the overview has, or as much as one reads at once."""
    rows = overview.worst if everything else overview.worst[:ROWS_SHOWN]
    shown = [
        place
        for can, most in PLACES_SHOWN.items()
        for place in [one for one in overview.places if one.can == can][: None if everything else most]
    ]
    of_places = [place.row for place in shown if place.row is not None]
    longest_us = max((row.rtt_min_us or 0 for row in [*rows, *of_places]), default=0)
    return OverviewView(
        overview=overview,
        cards=[_card(finding, overview) for finding in overview.findings],
        details=overview.verdict.details[:DETAILS_SHOWN],
        workplaces=[Workplace(one, path_line(one.row, longest_us) if one.row else None) for one in shown],
        more_places=_more(shown, overview.places_of),
        shares=shares(overview),
        matrix=_matrix(overview),
        lines=[path_line(row, longest_us) for row in rows],
    )


def _card(finding: Finding, overview: Overview) -> Card:
    kept = _kept_from_work(finding, overview.places)
    return Card(
        key=f"{finding.kind} {finding.where}",
        kind=KIND[finding.kind],
        name=capital(cause_name(finding, overview.members)),
        finding=finding,
        affected=affected(kept),
        worst=_worst_of(finding, kept, overview),
    )


def _kept_from_work(finding: Finding, places: Sequence[Place]) -> list[Place]:
    """Those workplaces that cannot work over a path that a cause explains, worst first."""
    explained = set(finding.explains)
    return [one for one in places if one.can == "cannot" and one.row and _ends(one.row) in explained]


def affected(kept: Sequence[Place]) -> str:
    """Say who cannot work; empty where all can."""
    who = [place.label or place.agent for place in kept]
    return f"{capital(names(who, AFFECTED_SHOWN))} cannot work" if who else ""


def _worst_of(finding: Finding, kept: Sequence[Place], overview: Overview) -> tuple[str, str]:
    """The path to look at: that of the workplace that has it worst, else the worst that is explained."""
    explained = set(finding.explains)
    ranked = (_ends(row) for row in overview.worst if _ends(row) in explained)
    return next((_ends(one.row) for one in kept if one.row), next(ranked, finding.explains[0]))


def _ends(row: PathRow) -> tuple[str, str]:
    return row.src, row.dst


def _more(shown: Sequence[Place], places_of: dict[str, int]) -> list[str]:
    """Count the workplaces that are not named one by one."""
    left = {can: count - sum(place.can == can for place in shown) for can, count in places_of.items()}
    return [f"{count:,} more {MARK[can]}" for can, count in left.items() if count > 0]


def shares(overview: Overview) -> list[Share]:
    """Divide a bar of 1,000 units among the letters; each letter that a path has is seen."""
    total = sum(count.paths for count in overview.letters)
    made, x = [], 0
    for count in overview.letters:
        width = max(4, 1000 * count.paths // total)
        made.append(Share(count.letter, count.paths, x, width))
        x += width
    return made


def _matrix(overview: Overview) -> Matrix | None:
    """Lay the letters out by site, where there are few enough agents and every path is in the list."""
    members: list[Member] = overview.members
    if not 2 < len(members) <= MATRIX_MOST or len(overview.worst) < overview.paths:
        return None
    return Matrix(
        members=sorted(members, key=lambda member: (member.site, member.name)),
        letters={(row.src, row.dst): row.grade.letter for row in overview.worst},
    )


def since_words(finding: Finding, at_us: int) -> str:
    """Say since when a cause is there: '09:41 UTC, 2 h ago'."""
    if finding.since_us is None:
        return ""
    moment = text.clock(finding.since_us)
    same_day = moment[:10] == text.clock(at_us)[:10]
    ago = text.age((at_us - finding.since_us) // 1_000_000)
    return f"{moment[11:16] if same_day else moment[:16]} UTC, {ago} ago"
