"""Why workplaces could not work at a moment: the report's findings, or the path's own hops. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from analytics import words
from analytics.cause import blamed_leg
from analytics.measurement import Leg, LegKind, Letter
from analytics.rules.sla import CauseKind, Side
from analytics.shapes import AddedLeg, Finding, PathRow, Report
from analytics.sla import NOT_KNOWN, Cause
from analytics.stretches import Stretch
from analytics.tomography import Kind
from analytics.verdict import LIKELY_PERCENT

_OF_FINDING: Final[Mapping[str, CauseKind]] = {
    Kind.HOST: CauseKind.HOST,
    Kind.UPLINK: CauseKind.ACCESS,
    Kind.REGION: CauseKind.REGION,
    Kind.RELAY: CauseKind.RELAY,
    Kind.TRANSIT: CauseKind.TRANSIT,
}
_OF_LEG: Final[Mapping[LegKind, tuple[CauseKind, Side]]] = {
    LegKind.SOURCE_HOST: (CauseKind.HOST, Side.SERVICE),
    LegKind.SOURCE_ACCESS: (CauseKind.ACCESS, Side.SERVICE),
    LegKind.TRANSIT: (CauseKind.TRANSIT, Side.BETWEEN),
    LegKind.DESTINATION_ACCESS: (CauseKind.ACCESS, Side.WORKPLACE),
    LegKind.DESTINATION_HOST: (CauseKind.HOST, Side.WORKPLACE),
}
_NAMES: Final = {
    (CauseKind.HOST, Side.SERVICE): "the service's host",
    (CauseKind.ACCESS, Side.SERVICE): "the access of the service's site",
    (CauseKind.TRANSIT, Side.BETWEEN): "the way between the sites",
    (CauseKind.ACCESS, Side.WORKPLACE): "the access of the workplace's site",
    (CauseKind.HOST, Side.WORKPLACE): "the workplace's host",
}


def causes_of(report: Report, agent: str, workplaces: Iterable[str]) -> dict[str, Cause]:
    """Tell why each of these could not use what is on an agent's host, by a report of that moment."""
    rows = {(row.src, row.dst): row for row in report.paths}
    sites = {member.name: member.site for member in report.members}
    found = {}
    for name in workplaces:
        ways = ((agent, name), (name, agent))
        shared = next(
            (one for one in _likely(report.findings) if not set(ways).isdisjoint(one.explains)), None
        )
        if shared is not None:
            found[name] = _shared(shared, agent, sites.get(agent, ""), report.at_us)
        else:
            found[name] = _own(rows.get(ways[0]), report.at_us)
    return found


def _likely(findings: Sequence[Finding]) -> list[Finding]:
    return [one for one in findings if one.confidence_percent >= LIKELY_PERCENT]


def _shared(finding: Finding, agent: str, site: str, at_us: int) -> Cause:
    kind = _OF_FINDING[Kind(finding.kind)]
    at_end = kind in (CauseKind.HOST, CauseKind.ACCESS)
    own = agent if kind is CauseKind.HOST else site
    side = (Side.SERVICE if finding.where == own else Side.WORKPLACE) if at_end else Side.BETWEEN
    return Cause(
        kind=kind,
        side=side,
        where=finding.where,
        sentence=finding.sentence,
        at_us=at_us,
        confidence_percent=finding.confidence_percent,
    )


def _own(row: PathRow | None, at_us: int) -> Cause:
    """Why, by the path alone: the leg that added time, or that most of it is in."""
    leg = None if row is None else row.added or blamed_leg(row)
    if row is None or leg is None:
        return _unknown(row, at_us)
    kind, side = _OF_LEG[leg.kind]
    return Cause(kind=kind, side=side, where=leg.site, sentence=_sentence(leg, row, kind, side), at_us=at_us)


def _sentence(leg: AddedLeg | Leg, row: PathRow, kind: CauseKind, side: Side) -> str:
    name = words.capital(_NAMES[kind, side])
    if isinstance(leg, AddedLeg):
        return f"{name} added {words.ms(leg.added_us)} of {words.ms(leg.of_us)} ms."
    return f"{name} takes {words.ms(leg.rtt_us)} of {words.ms(row.rtt_min_us or leg.rtt_us)} ms."


def _unknown(row: PathRow | None, at_us: int) -> Cause:
    if row is None:
        return NOT_KNOWN
    why = row.grade.reason if row.grade.letter is Letter.UNREACHABLE else "its hops do not tell where"
    return msgspec.structs.replace(NOT_KNOWN, sentence=f"{words.capital(why)}.", at_us=at_us)


def moments(down: Sequence[tuple[str, Stretch]], most: int) -> list[tuple[int, list[tuple[str, Stretch]]]]:
    """Choose moments to look at, so that few show many incidents: each just before one of them ends.

    The longest incidents go first where ``most`` moments do not show all.
    """
    left = sorted(down, key=lambda one: one[1].until_us)
    chosen: list[tuple[int, list[tuple[str, Stretch]]]] = []
    while left:
        at_us = left[0][1].until_us - 1
        seen = [one for one in left if one[1].since_us <= at_us]
        chosen.append((at_us, seen))
        left = [one for one in left if one[1].since_us > at_us]
    longest = sorted(chosen, key=lambda one: -sum(part.length_us for _, part in one[1]))
    return sorted(longest[:most], key=lambda one: one[0])
