"""What is wrong in one look: rules and facts in, conditions out. Pure.

READ FIRST: ``conditions``. A finding is one condition, however many paths it explains.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from analytics import words
from analytics.clauses import person, service_name
from analytics.findings import cause_name
from analytics.grammar import called, names
from analytics.letters import BAD
from analytics.measurement import Letter
from analytics.shapes import Finding, Member, Service
from analytics.tomography import Kind
from server.alerts.model import MOST_PAIRS, Alert, Cause, Condition, Pair, Severity
from server.alerts.rules import AgentsRule, AloneRule, CauseRule, OwnRule, Rule

Readings = Mapping[str, float | None]
"""The server's own readings, by name; None = could not be read."""


class Judged(NamedTuple):
    """What a report of one profile says, as far as alerts need it."""

    profile: str
    able: str  # "open a CT from the {service}"
    members: Sequence[Member]
    findings: Sequence[Finding]
    letter_of: Callable[[Pair], Letter | None]  # None: never tested


class Look(NamedTuple):
    """All that is looked at, at one moment."""

    at_us: int
    members: Sequence[Member]
    judged: Mapping[str, Judged]
    own: Readings
    before: Readings  # ``own`` of the look before; empty at the first


class Case(NamedTuple):
    """Whether one workplace can use one service."""

    service: Service
    member: Member
    letter: Letter | None

    @property
    def pair(self) -> Pair:
        """The path that carries the payload."""
        return self.service.agent, self.member.name


def conditions(rules: Mapping[str, Rule], look: Look) -> list[Condition]:
    """Say what is wrong, by each rule in turn."""
    return [found for name, rule in rules.items() for found in _OF[type(rule)](name, rule, look)]


def knows(alert: Alert, look: Look) -> bool:
    """Whether the facts say anything of what an alert is about: what is not known is not gone."""
    judged = look.judged.get(alert.profile)
    if alert.kind == "own":
        return look.own.get(alert.where) is not None
    if judged is None or not alert.pairs:
        return True
    letters = [judged.letter_of(pair) for pair in map(_pair, alert.pairs)]
    return 2 * sum(letter not in {None, Letter.UNKNOWN} for letter in letters) >= len(letters)


def _pair(ends: Sequence[str]) -> Pair:
    return ends[0], ends[1]


# --- the network --------------------------------------------------------------------------------------------


def _of_findings(name: str, rule: CauseRule, look: Look) -> Iterable[Condition]:
    for judged in _judged(rule, look):
        cases = _cases(judged, rule.services)
        for finding in judged.findings:
            if finding.confidence_percent >= rule.least_confidence_percent:
                yield _of_finding(name, rule, judged, cases, finding)


def _of_finding(
    name: str, rule: CauseRule, judged: Judged, cases: Sequence[Case], finding: Finding
) -> Condition:
    pairs = [_pair(pair) for pair in finding.explains]
    hit = _kept_from_work(cases, set(pairs))
    mild = Severity.INFO if cases else _of_paths(judged, pairs)
    return Condition(
        cause=Cause(name, finding.kind, finding.where, judged.profile),
        severity=_severity(rule.critical_percent, cases, hit, otherwise=mild),
        title=words.capital(cause_name(finding, judged.members)),
        text=" ".join([finding.sentence, *_who(hit, judged.able)]),
        cannot=_people(hit),
        agents=(*_people(hit), *([finding.where] if finding.kind == Kind.HOST else [])),
        pairs=tuple(pairs[:MOST_PAIRS]),
        since_us=finding.since_us,
    )


def _of_workplaces(name: str, rule: AloneRule, look: Look) -> Iterable[Condition]:
    for judged in _judged(rule, look):
        cases = _cases(judged, rule.services)
        explained = {_pair(pair) for finding in judged.findings for pair in finding.explains}
        alone = [case for case in cases if case.letter in BAD and case.pair not in explained]
        for service in dict.fromkeys(map(_service_key, alone)):
            hit = [case for case in alone if _service_key(case) == service]
            yield _of_service(name, rule, judged, cases, hit)


def _of_service(
    name: str, rule: AloneRule, judged: Judged, cases: Sequence[Case], hit: Sequence[Case]
) -> Condition:
    service = hit[0].service
    return Condition(
        cause=Cause(name, "workplaces", f"{service.agent}:{service.port}", judged.profile),
        severity=_severity(rule.critical_percent, cases, hit, otherwise=Severity.WARNING),
        title=f"Users of the {service_name(service)}",
        text=" ".join([*_who(hit, judged.able), "No cause that they share with others is known."]),
        cannot=_people(hit),
        agents=_people(hit),
        pairs=tuple(case.pair for case in hit[:MOST_PAIRS]),
    )


def _judged(rule: CauseRule | AloneRule, look: Look) -> list[Judged]:
    """The reports that a rule is for."""
    return [one for name, one in look.judged.items() if not rule.profiles or name in rule.profiles]


def _cases(judged: Judged, only: Collection[str]) -> list[Case]:
    """Every workplace with every service of the profile."""
    services = [
        service
        for member in judged.members
        for service in member.services
        if service.profile == judged.profile and (not only or service.name in only)
    ]
    providers = {service.agent for service in services}
    workplaces = [member for member in judged.members if member.name not in providers]
    return [
        Case(service, member, judged.letter_of((service.agent, member.name)))
        for service in services
        for member in workplaces
    ]


def _kept_from_work(cases: Sequence[Case], pairs: Collection[Pair]) -> list[Case]:
    return [case for case in cases if case.letter in BAD and case.pair in pairs]


def _severity(
    critical_percent: int, cases: Sequence[Case], hit: Sequence[Case], *, otherwise: Severity
) -> Severity:
    """Critical where so many workplaces of a service that it hits, and not just one, cannot work at all.

    Whatever keeps the others from it: a service that most cannot use is as bad with three causes as with one.
    """
    if not hit:
        return otherwise
    of, cannot = _by_service(cases), _by_service([case for case in cases if case.letter in BAD])
    many = (cannot[s] > 1 and 100 * cannot[s] >= critical_percent * of[s] for s in _by_service(hit))
    return Severity.CRITICAL if any(many) else Severity.WARNING


def _of_paths(judged: Judged, pairs: Sequence[Pair]) -> Severity:
    """Without a service nobody in particular is kept from work: bad paths, or slow ones."""
    return Severity.WARNING if any(judged.letter_of(pair) in BAD for pair in pairs) else Severity.INFO


def _service_key(case: Case) -> tuple[str, int]:
    return case.service.agent, case.service.port


def _by_service(cases: Sequence[Case]) -> dict[tuple[str, int], int]:
    counts: dict[tuple[str, int], int] = {}
    for case in cases:
        counts[_service_key(case)] = counts.get(_service_key(case), 0) + 1
    return counts


def _people(hit: Sequence[Case]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(case.member.name for case in hit))


def _who(hit: Sequence[Case], able: str) -> list[str]:
    """One sentence a service, as 'The radiologist (hotel) cannot open a CT from the PACS'."""
    services = {_service_key(case): case.service for case in hit}
    return [
        f"{_begun([case.member for case in hit if _service_key(case) == key])}"
        f" cannot {able.format(service=service_name(service))}."
        for key, service in services.items()
    ]


def _begun(members: Sequence[Member]) -> str:
    """Begin a sentence with people; a name without a label is written as it is."""
    told = names([person(member) for member in members])
    return words.capital(told) if called(members[0].label) else told


# --- pathgrade itself ---------------------------------------------------------------------------------------


def _of_agents(name: str, rule: AgentsRule, look: Look) -> Iterable[Condition]:
    by_site: dict[str, list[Member]] = {}
    for member in look.members:
        by_site.setdefault(member.site, []).append(member)
    for site, members in by_site.items():
        away = [member for member in members if not member.online]
        if away:
            yield Condition(
                cause=Cause(name, "agents", site),
                severity=Severity.CRITICAL if any(one.services for one in away) else Severity.WARNING,
                title=f"{site}: {len(away)} of {words.count(len(members), 'agent')} away",
                text=_away(away, len(members), site),
                agents=tuple(one.name for one in away),
            )


def _away(away: Sequence[Member], of: int, site: str) -> str:
    told = names([person(member) for member in away])
    if of == 1:
        return f"The agent of {told} is not connected. Its paths are not tested."
    many = f"All {of}" if len(away) == of else f"{len(away)} of {of}"
    return f"{many} agents at {site} are not connected: {told}. Their paths are not tested."


def _of_own(name: str, rule: OwnRule, look: Look) -> Iterable[Condition]:
    value = look.own.get(rule.reading)
    if value is not None and _is_wrong(rule, value, look.before.get(rule.reading)):
        said = f"{rule.title}: {rule.reading} is {value:g}."
        yield Condition(
            cause=Cause(name, "own", rule.reading),
            severity=rule.severity,
            title=rule.title,
            text=f"{said} Try: {rule.try_}." if rule.try_ else said,
        )


def _is_wrong(rule: OwnRule, value: float, before: float | None) -> bool:
    if rule.above is not None:
        return value > rule.above
    if rule.below is not None:
        return value < rule.below
    return before is not None and rule.rises_by is not None and value - before >= rule.rises_by


_OF: Final[Mapping[type[Rule], Callable[..., Iterable[Condition]]]] = {
    CauseRule: _of_findings,
    AloneRule: _of_workplaces,
    AgentsRule: _of_agents,
    OwnRule: _of_own,
}
