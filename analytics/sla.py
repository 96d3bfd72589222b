"""The SLA report: one service and month, counted from the letters of its tests. Pure.

READ FIRST: ``sla_report``. How time counts is ``stretches.py``; the rules are ``rules/sla.toml``. A workplace
is an agent that uses the service; its path is the one that carries the payload, service -> workplace.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from analytics import words
from analytics.measurement import Letter
from analytics.rules.load import Rules
from analytics.rules.sla import CauseKind, Owner, Side, SlaRules
from analytics.shapes import Member, Service
from analytics.stretches import Stretch, basis_points, covered, incidents, lengths
from analytics.verdict import CAN

FORMAT: Final = "pathgrade.sla.v1"
LETTERS: Final = (
    *(Letter.A, Letter.B, Letter.C, Letter.D, Letter.F),
    *(Letter.UNREACHABLE, Letter.UNKNOWN),
)
MOST_INCIDENTS: Final = 500
"""Told one by one, the longest; the rest are counted."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Time with one letter."""

    letter: Letter
    us: int
    bp: int  # of the whole time; the shares of one list add up to 10,000


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why a workplace could not work, as the report of a moment in the incident tells."""

    kind: CauseKind
    side: Side
    where: str  # agent, site, region, or two sites; empty where nobody knows
    sentence: str
    at_us: int | None  # the moment that was looked at; None: none was
    confidence_percent: int | None = None  # None: the path's own hops tell, or nothing does


NOT_KNOWN: Final = Cause(
    kind=CauseKind.UNKNOWN,
    side=Side.BETWEEN,
    where="",
    sentence="Why is not known: no test of that time tells.",
    at_us=None,
)


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A time without a gap in which a workplace could not work."""

    workplace: str
    site: str
    since_us: int
    until_us: int
    ongoing: bool  # it lasts at the end of the report
    worst: Letter
    cause: Cause
    owner: Owner


class WorkplaceTime(msgspec.Struct, frozen=True, kw_only=True):
    """One workplace's month."""

    name: str
    label: str
    site: str
    shares: list[Share]
    incidents: int
    down_us: int


class OwnerTime(msgspec.Struct, frozen=True, kw_only=True):
    """What one owner's causes took."""

    owner: Owner
    incidents: int
    us: int  # summed over workplaces


class SlaReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed. Times are UTC; shares of all workplaces together count each workplace's time once."""

    format: str
    tenant: str
    service: str
    agent: str  # on whose host the service is
    port: int
    profile: str
    month: str
    since_us: int
    until_us: int  # end of the month, or the moment of the report in a month that is not over
    complete: bool  # the month is over
    made_us: int
    rules_versions: list[str]  # of the letters
    sla_rules_version: str
    time_rule: str
    time_rule_text: str
    counts_for_s: int
    readings: int = 0  # of the paths from the service to workplaces, as far as they were counted
    readings_signed: int = 0  # of them, by both ends (docs/receipts.md)
    incident_rule: str
    incident_rule_text: str
    owner_rule: str
    shares: list[Share]
    could_bp: int  # A, B, C
    could_not_bp: int  # D, F, X
    unknown_bp: int
    workplaces: list[WorkplaceTime]  # the one that could work least first
    incidents: list[Incident]  # by time
    incidents_left_out: int
    owners: list[OwnerTime]  # who took most first


class Month(NamedTuple):
    """A calendar month, UTC."""

    name: str
    since_us: int
    until_us: int


def month_of(text: str) -> Month | None:
    """Read '2026-11'; None where it is none."""
    if not re.fullmatch(r"(19[7-9][0-9]|2[01][0-9]{2})-(0[1-9]|1[0-2])", text):
        return None
    year, month = int(text[:4]), int(text[5:])
    begins = [datetime(y, m, 1, tzinfo=UTC) for y, m in ((year, month), (year + month // 12, month % 12 + 1))]
    since_us, until_us = (round(begin.timestamp()) * 1_000_000 for begin in begins)
    return Month(text, since_us, until_us)


def month_at(at_us: int) -> str:
    """Name the month of a moment."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m")


class Asked(NamedTuple):
    """What a report is of."""

    tenant: str
    service: Service
    month: Month
    made_us: int
    rules_versions: Sequence[str]
    counts_for_s: int
    readings: int = 0
    readings_signed: int = 0


def users_of(service: Service, members: Sequence[Member], rules: Rules) -> list[Member]:
    """Tell who uses a service: every agent but those that offer one of its profile.

    Where a profile is for some sites only, those with an end of the path there. Raises ``RulesError``.
    """
    offered = {one.agent for member in members for one in member.services if one.profile == service.profile}
    wanted = set(rules.profile(service.profile).sites)
    here = {member.site for member in members if member.name == service.agent}
    return [
        member
        for member in members
        if member.name not in offered and (not wanted or wanted & ({member.site} | here))
    ]


def sla_report(
    asked: Asked,
    parts: Mapping[str, Sequence[Stretch]],
    members: Iterable[Member],
    causes: Mapping[tuple[str, int], Cause],
    rules: SlaRules,
) -> SlaReport:
    """Count a month: ``parts`` are each workplace's stretches, ``causes`` by workplace and begin."""
    until_us = min(asked.month.until_us, max(asked.month.since_us, asked.made_us))
    range_us = (asked.month.since_us, until_us)
    known = {member.name: member for member in members}
    whole = {name: covered(own, *range_us) for name, own in sorted(parts.items())}
    found = [
        _incident(
            known.get(name, Member(name=name, site="")),
            one,
            until_us,
            causes.get((name, one.since_us), NOT_KNOWN),
            rules,
        )
        for name, own in whole.items()
        for one in incidents(own)
    ]
    workplaces = [_workplace(known.get(name, Member(name=name, site="")), own) for name, own in whole.items()]
    total = sum((lengths(own) for own in whole.values()), Counter[Letter]())
    shares = _shares(total)
    return SlaReport(
        format=FORMAT,
        tenant=asked.tenant,
        service=asked.service.name,
        agent=asked.service.agent,
        port=asked.service.port,
        profile=asked.service.profile,
        month=asked.month.name,
        since_us=asked.month.since_us,
        until_us=until_us,
        complete=until_us == asked.month.until_us,
        made_us=asked.made_us,
        rules_versions=sorted(set(asked.rules_versions)),
        sla_rules_version=rules.version,
        time_rule=rules.time_rule,
        time_rule_text=rules.time.format(counts_for=words.span(asked.counts_for_s * 1_000_000)),
        counts_for_s=asked.counts_for_s,
        readings=asked.readings,
        readings_signed=asked.readings_signed,
        incident_rule=rules.incident_rule,
        incident_rule_text=rules.incident,
        owner_rule=rules.owner_rule,
        shares=shares,
        could_bp=sum(one.bp for one in shares if one.letter in CAN),
        could_not_bp=sum(
            one.bp for one in shares if one.letter not in CAN and one.letter is not Letter.UNKNOWN
        ),
        unknown_bp=next(one.bp for one in shares if one.letter is Letter.UNKNOWN),
        workplaces=sorted(workplaces, key=lambda one: (-one.down_us, one.name)),
        incidents=_told(found),
        incidents_left_out=max(0, len(found) - MOST_INCIDENTS),
        owners=_owners(found),
    )


def _shares(of: Counter[Letter]) -> list[Share]:
    points = basis_points(of, LETTERS)
    return [Share(letter=letter, us=of[letter], bp=bp) for letter, bp in zip(LETTERS, points, strict=True)]


def _workplace(member: Member, parts: Sequence[Stretch]) -> WorkplaceTime:
    down = incidents(parts)
    return WorkplaceTime(
        name=member.name,
        label=member.label,
        site=member.site,
        shares=_shares(lengths(parts)),
        incidents=len(down),
        down_us=sum(one.length_us for one in down),
    )


def _incident(member: Member, of: Stretch, until_us: int, cause: Cause, rules: SlaRules) -> Incident:
    return Incident(
        workplace=member.name,
        site=member.site,
        since_us=of.since_us,
        until_us=of.until_us,
        ongoing=of.until_us == until_us,
        worst=of.letter,
        cause=cause,
        owner=rules.owner(cause.kind, cause.side),
    )


def _told(found: Sequence[Incident]) -> list[Incident]:
    longest = sorted(found, key=lambda one: (one.since_us - one.until_us, one.since_us, one.workplace))
    return sorted(longest[:MOST_INCIDENTS], key=lambda one: (one.since_us, one.workplace))


def _owners(found: Sequence[Incident]) -> list[OwnerTime]:
    count, us = Counter[Owner](), Counter[Owner]()
    for one in found:
        count[one.owner] += 1
        us[one.owner] += one.until_us - one.since_us
    made = [OwnerTime(owner=owner, incidents=count[owner], us=us[owner]) for owner in count]
    return sorted(made, key=lambda one: (-one.us, one.owner.value))
