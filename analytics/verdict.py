"""The verdict: one sentence on top, one for each who cannot, and one for what is not known.

A small grammar over letters: A, B and C can; D, F and X cannot; ``?`` and no reading are not known. The words
of a profile are in ``rules/profiles.toml``; the tests hold every sentence verbatim. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from analytics import words
from analytics.cause import blamed_leg
from analytics.kinds.table import kind_of
from analytics.measurement import Leg, LegKind, Letter
from analytics.predict import Limit
from analytics.rules.load import Profile, Rules
from analytics.shapes import AddedLeg, Member, PathRow, Service, Verdict

CAN: Final = frozenset({Letter.A, Letter.B, Letter.C})
PATHS_TOLD: Final = 5
PEOPLE_TOLD: Final = 20
NAMES_TOLD: Final = 3
WHY_MOST: Final = 200
_BP: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Case:
    """Whether one workplace can use one service: the row of the path that carries the payload, if any."""

    member: Member
    service: Service
    row: PathRow | None

    @property
    def letter(self) -> Letter:
        return Letter.UNKNOWN if self.row is None else self.row.grade.letter


def verdict(profile: str, members: Sequence[Member], rows: Sequence[PathRow], rules: Rules) -> Verdict:
    """Judge a fleet for one profile; ``rows`` worst first. Raises ``RulesError`` for an unknown profile."""
    wanted = rules.profile(profile)
    services = [service for member in members for service in member.services if service.profile == profile]
    if len(members) < 2 or not rows:
        return _nothing_yet(members)
    if not services:
        return _of_paths(wanted, rows)
    return _of_people(wanted, services, members, rows)


def _nothing_yet(members: Sequence[Member]) -> Verdict:
    told = {
        0: "No agent is enrolled yet.",
        1: "One agent is enrolled; a path needs two.",
    }
    several = f"Nothing is measured yet: {len(members)} agents are enrolled, the first cycle is not done."
    return Verdict(
        headline=told.get(len(members), several),
        details=[],
        can=[],
        cannot=[],
        unknown=sorted(member.name for member in members),
    )


# --- people and services ----------------------------------------------------------------------------------


def _of_people(
    profile: Profile, services: Sequence[Service], members: Sequence[Member], rows: Sequence[PathRow]
) -> Verdict:
    cases = _cases(services, members, rows)
    by_service = [[case for case in cases if case.service == service] for service in services]
    able = [profile.words.able.format(service=service.name) for service in services]
    headlines = map(_headline, by_service, able)
    cannot = [case for case in cases if _state(case.letter) == "cannot"]
    unknown = [case for case in cases if _state(case.letter) == "unknown"]
    several = len(services) > 1
    details = [_cannot_sentence(case, profile, several=several) for case in cannot]
    return Verdict(
        headline=" ".join(headlines),
        details=[*_most(details, PEOPLE_TOLD, "more cannot"), *_unknown_sentences(unknown, members)],
        **_names(cases),
    )


def _cases(services: Sequence[Service], members: Sequence[Member], rows: Sequence[PathRow]) -> list[_Case]:
    """Every workplace with every service, in the order of ``rows``: worst first, those without a row last."""
    ranked = {(row.src, row.dst): (at, row) for at, row in enumerate(rows)}
    providers = {service.agent for service in services}
    cases = [
        (*ranked.get((service.agent, member.name), (len(rows), None)), member, service)
        for service in services
        for member in members
        if member.name not in providers
    ]
    ordered = sorted(cases, key=lambda case: (case[0], case[2].name))
    return [_Case(member=member, service=service, row=row) for _, row, member, service in ordered]


def _names(cases: Sequence[_Case]) -> dict[str, list[str]]:
    """Sort each workplace by its worst case."""
    states: dict[str, set[str]] = {}
    for case in cases:
        states.setdefault(case.member.name, set()).add(_state(case.letter))
    worst = {
        name: next(state for state in ("cannot", "unknown", "can") if state in seen)
        for name, seen in states.items()
    }
    return {
        state: sorted(name for name, of in worst.items() if of == state)
        for state in ("can", "cannot", "unknown")
    }


def _state(letter: Letter) -> str:
    if letter is Letter.UNKNOWN:
        return "unknown"
    return "can" if letter in CAN else "cannot"


def _headline(cases: Sequence[_Case], able: str) -> str:
    """Say '4 of 5 workplaces can open a CT from the PACS right now'."""
    if not cases:
        return f"No workplace is enrolled yet that could {able}."
    states = [_state(case.letter) for case in cases]
    total, can, unknown = len(states), states.count("can"), states.count("unknown")
    if unknown == total:
        who = "the one workplace" if total == 1 else f"the {total} workplaces"
        return f"Whether {who} can {able} is not known right now."
    verb = "cannot" if total == 1 and not can else "can"
    return f"{_who(total, can, unknown)} {verb} {able} right now{_rest(unknown)}."


def _who(total: int, can: int, unknown: int) -> str:
    if total == 1:
        return "The one workplace"
    if can == total:
        return f"All {total} workplaces"
    if can == 0 and not unknown:
        return f"None of the {total} workplaces"
    return f"{can} of {total} workplaces"


def _rest(unknown: int) -> str:
    if not unknown:
        return ""
    return f"; {unknown} {'is' if unknown == 1 else 'are'} not known"


def _cannot_sentence(case: _Case, profile: Profile, *, several: bool) -> str:
    """Say 'The radiologist (hotel) cannot read comfortably (D): a 50 MB CT takes about 41 s', and why."""
    assert case.row is not None  # a case without a row is not known
    who = words.capital(_person(case.member)) if case.member.label else _person(case.member)
    if case.letter is Letter.UNREACHABLE:
        return f"{who} cannot connect to the {case.service.name}: {_why(case.row)}."
    cannot = profile.words.cannot_d if case.letter is Letter.D else profile.words.cannot_f
    at = f" at the {case.service.name}" if several else ""
    told = [f"{who} {cannot}{at} ({case.letter}): {_outcome(case.row, profile)}."]
    return " ".join([*told, *_causes(case.row, profile, case.member.label or case.member.name)])


def _unknown_sentences(cases: Sequence[_Case], members: Sequence[Member]) -> list[str]:
    """One sentence a reason: 'Not known for the home reader (home): last measured 22 min ago'."""
    online = {member.name: member.online for member in members}
    by_reason: dict[str, list[_Case]] = {}
    for case in cases:
        by_reason.setdefault(_unknown_reason(case, online), []).append(case)
    return [
        f"Not known for {_list([_person(case.member) for case in own])}: {reason}."
        for reason, own in by_reason.items()
    ]


def _unknown_reason(case: _Case, online: Mapping[str, bool]) -> str:
    reason = "not measured yet" if case.row is None else _cut(case.row.grade.reason)
    if not online.get(case.service.agent, False):
        return f"the agent of the {case.service.name} is not connected"
    if not case.member.online:
        return f"the agent there is not connected; {reason}"
    return reason


def _person(member: Member) -> str:
    """Say 'the radiologist (hotel)'; the site is left out where the name says it."""
    called = member.label or member.name
    return called if member.site in re.findall(r"[\w.-]+", called) else f"{called} ({member.site})"


# --- paths --------------------------------------------------------------------------------------------------


def _of_paths(profile: Profile, rows: Sequence[PathRow]) -> Verdict:
    """Without a service nobody in particular is served: count paths, and name the worst."""
    states = [_state(row.grade.letter) for row in rows]
    bad = [row for row in rows if _state(row.grade.letter) == "cannot"]
    details = [_path_sentence(row, profile) for row in bad]
    return Verdict(
        headline=_paths_headline(states, profile.words.paths_able),
        details=_most(details, PATHS_TOLD, "more paths are not"),
        can=[],
        cannot=[],
        unknown=[],
    )


def _paths_headline(states: Sequence[str], able: str) -> str:
    """Say '28 of 30 paths are good right now; 1 is not known'."""
    total, can, unknown = len(states), states.count("can"), states.count("unknown")
    if unknown == total:
        return f"Whether the {total} paths {able} is not known right now."
    if can == total:
        return f"All {total} paths {able} right now."
    who = f"None of the {total}" if not can and not unknown else f"{can} of {total}"
    return f"{who} paths {able} right now{_rest(unknown)}."


def _path_sentence(row: PathRow, profile: Profile) -> str:
    where = f"{row.src} -> {row.dst}"
    if row.grade.letter is Letter.UNREACHABLE:
        return f"{where} cannot connect: {_why(row)}."
    told = [f"{where} ({row.grade.letter}): {_outcome(row, profile)}."]
    return " ".join([*told, *_causes(row, profile, row.dst)])


# --- what is wrong ------------------------------------------------------------------------------------------


def _outcome(row: PathRow, profile: Profile) -> str:
    """'a 50 MB CT takes about 41 s'; with a lower bound only, '41 s or more'."""
    written = kind_of(profile).written
    if row.grade.outcome is not None:
        return profile.words.outcome.format(outcome=written(row.grade.outcome))
    return profile.words.outcome.format(outcome=f"{written(row.grade.outcome_low or 0)} or more")


def _causes(row: PathRow, profile: Profile, towards: str) -> list[str]:
    return [_CAUSES[limit](row, profile, towards) for limit in kind_of(profile).limits(row, profile)]


def _latency(row: PathRow, profile: Profile, towards: str) -> str:
    """Say '212 of 260 ms is added between the hotel's gateway and its provider'."""
    if row.added is not None:
        return _added(row, row.added)
    total = words.ms(row.rtt_min_us or row.rtt_p50_us or row.rtt_p95_us or 0)
    leg = blamed_leg(row)
    if leg is not None:
        return f"{words.ms(leg.rtt_us)} of {total} ms is added {_place(leg, row)}{_usually(row)}."
    relay = ", by way of a relay" if row.rung.relayed else ""
    where = "no single leg explains it" if row.legs else "where it is added is not known"
    return f"The round trip is {total} ms{relay}{_usually(row)}; {where}."


def _added(row: PathRow, leg: AddedLeg) -> str:
    """Say '211 of 212 ms more than usual (49 ms) are added between the hotel's gateway and its provider'."""
    ways = {"forward": f", on the way to {row.dst}", "back": f", on the way from {row.dst}"}
    where = _place(Leg(kind=leg.kind, site=leg.site, rtt_us=leg.added_us), row)
    usual, since = words.ms(row.usual_rtt_us or 0), words.moment(row.slower_since_us or 0)
    more = f"{words.ms(leg.added_us)} of {words.ms(leg.of_us)} ms more than usual ({usual} ms)"
    return f"{more} are added {where}{ways.get(leg.direction, '')}, since {since}."


def _usually(row: PathRow) -> str:
    """Say ' (usually 49 ms; slower since 09:41 UTC)' of one that is slower than usual; else nothing."""
    if row.usual_rtt_us is None or row.slower_since_us is None:
        return ""
    return f" (usually {words.ms(row.usual_rtt_us)} ms; slower since {words.moment(row.slower_since_us)})"


def _capacity(row: PathRow, profile: Profile, towards: str) -> str:
    relay = " through the relay" if row.rung.relayed else ""
    return f"Only {words.rate(row.capacity_kbps or 0)} get to {towards}{relay}."


def _loss(row: PathRow, profile: Profile, towards: str) -> str:
    if kind_of(profile).both_ways and (row.loss_back_bp or 0) > (row.loss_bp or 0):
        return f"{words.percent(row.worse_loss_bp / _BP)} of the packets from {towards} are lost."
    return f"{words.percent((row.loss_bp or 0) / _BP)} of the packets to {towards} are lost."


_CAUSES: Final[dict[Limit, Callable[[PathRow, Profile, str], str]]] = {
    Limit.LATENCY: _latency,
    Limit.CAPACITY: _capacity,
    Limit.LOSS: _loss,
}


def _place(leg: Leg, row: PathRow) -> str:
    """Say where a leg is in words that its owner knows."""
    relay = "on the way through the relay" if row.rung.relayed else "between the providers"
    agent = row.src if leg.kind is LegKind.SOURCE_HOST else row.dst
    host = f"between {agent} and the {leg.site}'s gateway"
    access = f"between the {leg.site}'s gateway and its provider"
    return {
        LegKind.SOURCE_HOST: host if len(row.legs) > 1 else f"inside the {leg.site}'s own network",
        LegKind.SOURCE_ACCESS: access,
        LegKind.TRANSIT: relay,
        LegKind.DESTINATION_ACCESS: access,
        LegKind.DESTINATION_HOST: host,
    }[leg.kind]


def _why(row: PathRow) -> str:
    return _cut(row.grade.reason.removeprefix("cannot connect: "))


def _cut(reason: str) -> str:
    reason = reason.rstrip(". ")
    return reason if len(reason) <= WHY_MOST else f"{reason[: WHY_MOST - 1]}…"


def _most(sentences: list[str], most: int, rest: str) -> list[str]:
    left = len(sentences) - most
    return sentences if left <= 0 else [*sentences[:most], f"{left} {rest}."]


def _list(names: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c', 'a, b, c and 4 more'."""
    shown = list(names[:NAMES_TOLD])
    if len(names) > NAMES_TOLD:
        shown.append(f"{len(names) - NAMES_TOLD} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
