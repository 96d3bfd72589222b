"""What a page shows, computed from the report: pure, no HTML, no clock.

READ FIRST: ``report_view`` for ``/`` and ``path_view`` for ``/paths/{src}/{dst}``. Templates lay these out
and decide nothing but the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from analytics.grade import STALE
from analytics.legs import envelope
from analytics.measurement import Flow, Hop, Leg, Letter, Reading
from analytics.paths import WORST_FIRST
from analytics.report import Member, PathDetail, PathRow, Report
from server.pages import text
from server.pages.fusion_words import fusion_notes
from server.pages.route_words import hop_notes, path_notes

BAR_WIDTH: Final = 1000
"""Units of a leg bar's SVG: per mille of its full length."""

MAX_RTT_US: Final = 3_600_000_000
"""No round trip is longer (``analytics.measurement.us``): the bound of hops on a path without one."""

MATRIX_MOST: Final = 24
"""Agents whose matrix of letters still fits a page; the list has them all in any case."""

Can = Literal["can", "cannot", "unknown"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One leg in a bar: ``x`` and ``width`` in units of ``BAR_WIDTH``."""

    kind: str
    name: str
    x: int
    width: int
    rtt_us: int
    share_percent: int
    largest: bool
    measured: bool


@dataclass(frozen=True, slots=True)
class LegBar:
    """The legs of a path drawn to scale, and the same in words."""

    segments: list[Segment]
    words: str  # "hotel access 212 ms, transit 7.6 ms, ..."
    largest: str  # "hotel access"
    largest_us: int


@dataclass(frozen=True, slots=True)
class PathLine:
    """One line of the ranked list."""

    row: PathRow
    bar: LegBar | None
    stale: bool


@dataclass(frozen=True, slots=True)
class Workplace:
    """One person and a service: whether they can use it now."""

    member: Member
    can: Can
    line: PathLine | None  # the path that carries the payload: service -> person
    service: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """Letters by source and destination, ordered by site."""

    members: list[Member]
    letters: dict[tuple[str, str], Letter]


@dataclass(frozen=True, slots=True)
class ReportView:
    """The page ``/``."""

    report: Report
    workplaces: list[Workplace]
    lines: list[PathLine]
    matrix: Matrix | None
    letters: list[tuple[Letter, int]]  # how many paths of each letter, worst first
    relayed: int


@dataclass(frozen=True, slots=True)
class HopLine:
    """One hop, with what it added over the hop before it."""

    hop: Hop
    added_us: int | None
    largest: bool
    notes: list[str]  # what else is known of it, in words


@dataclass(frozen=True, slots=True)
class HopGroup:
    """Hops next to each other in one leg; ``leg`` is empty where nobody answered before the first leg."""

    leg: str
    lines: list[HopLine]


@dataclass(frozen=True, slots=True)
class Side:
    """One direction of a pair on the path page."""

    row: PathRow
    reading: Reading
    bar: LegBar | None
    hops: list[HopGroup]
    elsewhere: str  # legs that the other end told of: "hotel access 212 ms, ..."
    failed: list[tuple[str, str]]  # rung name, why
    way: list[str]  # route, path MTU, DSCP and ECN: a sentence each
    sessions: list[str]  # what applications' own sessions said: a sentence each


@dataclass(frozen=True, slots=True)
class PathView:
    """The page ``/paths/{src}/{dst}``."""

    profile: str
    sides: list[Side]
    flows: list[Flow]


def report_view(report: Report) -> ReportView:
    """Lay out a report: people first, then paths, worst first in both."""
    longest_us = max((row.rtt_min_us or 0 for row in report.paths), default=0)
    lines = [path_line(row, longest_us) for row in report.paths]
    return ReportView(
        report=report,
        workplaces=_workplaces(report, lines),
        lines=lines,
        matrix=_matrix(report),
        letters=_letters(report.paths),
        relayed=sum(row.rung.relayed for row in report.paths),
    )


def path_view(detail: PathDetail, profile: str) -> PathView:
    """Lay out both directions of a pair, each with its own hops."""
    sides = [_side(detail.forward, detail.forward_reading, detail.forward_hops)]
    if detail.back is not None and detail.back_reading is not None:
        sides.append(_side(detail.back, detail.back_reading, detail.back_hops))
    return PathView(profile=profile, sides=sides, flows=detail.flows)


def path_line(row: PathRow, longest_us: int) -> PathLine:
    """Make one line; its bar is drawn on a scale common to the list."""
    return PathLine(row=row, bar=leg_bar(row, longest_us), stale=row.grade.rule == STALE)


def leg_bar(row: PathRow, full_us: int) -> LegBar | None:
    """Draw the legs of a path so that ``full_us`` is the whole width; None where no leg is known."""
    total_us = sum(leg.rtt_us for leg in row.legs)
    if not total_us:
        return None
    largest = max(row.legs, key=_rtt_of)
    known = [leg for leg in row.legs if leg.measured or leg.rtt_us]
    return LegBar(
        segments=_segments(known, row, largest, total_us, max(full_us, total_us)),
        words=", ".join(f"{text.leg_name(leg, row)} {text.ms(leg.rtt_us)}" for leg in known),
        largest=text.leg_name(largest, row),
        largest_us=largest.rtt_us,
    )


def _segments(legs: Sequence[Leg], row: PathRow, largest: Leg, total_us: int, full_us: int) -> list[Segment]:
    segments, start_us = [], 0
    for leg in legs:
        x, end = start_us * BAR_WIDTH // full_us, (start_us + leg.rtt_us) * BAR_WIDTH // full_us
        segments.append(
            Segment(
                kind=leg.kind.value,
                name=text.leg_name(leg, row),
                x=x,
                width=end - x,
                rtt_us=leg.rtt_us,
                share_percent=round(100 * leg.rtt_us / total_us),
                largest=leg is largest,
                measured=leg.measured,
            )
        )
        start_us += leg.rtt_us
    return segments


def _workplaces(report: Report, lines: list[PathLine]) -> list[Workplace]:
    """Pair each person that the verdict names with their worst path from a service of this profile."""
    verdict = report.verdict
    groups: list[tuple[Can, list[str]]] = [
        ("cannot", verdict.cannot),
        ("unknown", verdict.unknown),
        ("can", verdict.can),
    ]
    members = {member.name: member for member in report.members}
    worst = _worst_from_services(report, lines)
    places = []
    for can, names in groups:
        for name in sorted(names, key=lambda name: worst.get(name, (len(lines), ""))[0]):
            rank, service = worst.get(name, (None, ""))
            line = None if rank is None else lines[rank]
            member = members.get(name) or Member(name=name, site="", online=False)
            places.append(Workplace(member=member, can=can, line=line, service=service))
    return places


def _worst_from_services(report: Report, lines: list[PathLine]) -> dict[str, tuple[int, str]]:
    """Find each agent's worst path from a service of the profile: its rank in the list, and the service."""
    services = {s.agent: s.name for m in report.members for s in m.services if s.profile == report.profile}
    worst: dict[str, tuple[int, str]] = {}
    for rank, line in enumerate(lines):
        if line.row.src in services:
            worst.setdefault(line.row.dst, (rank, services[line.row.src]))
    return worst


def _matrix(report: Report) -> Matrix | None:
    """Lay the letters out by site; None where there are too few agents, or too many to read."""
    if not 2 < len(report.members) <= MATRIX_MOST:
        return None
    return Matrix(
        members=sorted(report.members, key=lambda member: (member.site, member.name)),
        letters={(row.src, row.dst): row.grade.letter for row in report.paths},
    )


def _letters(paths: Sequence[PathRow]) -> list[tuple[Letter, int]]:
    counts = {letter: sum(row.grade.letter is letter for row in paths) for letter in WORST_FIRST}
    return [(letter, count) for letter, count in counts.items() if count]


def _side(row: PathRow, reading: Reading, hops: list[Hop]) -> Side:
    groups = hop_groups(row, hops, reading)
    return Side(
        row=row,
        reading=reading,
        bar=leg_bar(row, 0),
        hops=groups,
        elsewhere=told_elsewhere(row, groups) if groups else "",
        failed=text.rungs_failed(row.rungs_failed),
        way=path_notes(reading, hops),
        sessions=fusion_notes(row),
    )


def hop_groups(row: PathRow, hops: Sequence[Hop], reading: Reading | None = None) -> list[HopGroup]:
    """Say what each hop added, and in which leg it stands.

    A router that answers late delays its answer only, so a hop's time counts as far as every later hop
    confirms it, as it does for the legs.
    """
    ordered = sorted(hops, key=lambda hop: hop.ttl)
    confirmed = envelope(ordered, MAX_RTT_US if row.rtt_min_us is None else row.rtt_min_us)
    reached = [confirmed.get(hop.ttl) for hop in ordered]
    added = _steps(reached)
    most = max((step for step in added if step is not None), default=0)
    largest = text.leg_name(max(row.legs, key=_rtt_of), row) if row.legs else ""
    groups: list[HopGroup] = []
    for hop, at_us, step in zip(ordered, reached, added, strict=True):
        leg = _leg_at(row, at_us, step)
        if not groups or (leg and leg != groups[-1].leg):
            groups.append(HopGroup(leg=leg, lines=[]))
        # This end may not see the largest leg: then the largest of what it sees is not marked.
        marked = bool(step) and step == most and leg == largest
        groups[-1].lines.append(HopLine(hop, step, marked, hop_notes(hop, reading) if reading else []))
    return groups


def told_elsewhere(row: PathRow, groups: Sequence[HopGroup]) -> str:
    """Name the legs that this end's hops do not reach, and that the other end told of; empty if none."""
    seen = {group.leg for group in groups}
    rest = (leg for leg in row.legs if leg.rtt_us and text.leg_name(leg, row) not in seen)
    return ", ".join(f"{text.leg_name(leg, row)} {text.ms(leg.rtt_us)}" for leg in rest)


def _rtt_of(leg: Leg) -> int:
    return leg.rtt_us


def _steps(reached: Sequence[int | None]) -> list[int | None]:
    """Difference of each known value and the known value before it; the first counts from 0."""
    steps: list[int | None] = []
    before = 0
    for at_us in reached:
        steps.append(None if at_us is None else at_us - before)
        before = before if at_us is None else at_us
    return steps


def _leg_at(row: PathRow, at_us: int | None, step_us: int | None) -> str:
    """Name the leg that the middle of a hop's own step lies in; the legs stand end to end on the RTT."""
    if at_us is None or step_us is None:
        return ""
    middle_us, end_us = at_us - step_us / 2, 0
    for leg in row.legs:
        end_us += leg.rtt_us
        if middle_us < end_us:
            return text.leg_name(leg, row)
    return text.leg_name(row.legs[-1], row) if row.legs else ""
