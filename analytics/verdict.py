"""The verdict: one sentence on top, one for each who cannot or for each cause, and one for what is not known.

READ FIRST: ``verdict``. A, B and C can; D, F and X cannot; ``?`` and no reading are not known. The sentences
are put together from clauses (``clauses.py``) by a small grammar (``grammar.py``); the words of a profile are
in ``rules/profiles.toml``; the tests hold every sentence verbatim. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from analytics import clauses, together
from analytics.clauses import Told, person, service_name
from analytics.grammar import names, sentence, why
from analytics.measurement import Letter
from analytics.rules.load import Profile, Rules
from analytics.shapes import Finding, Member, PathRow, Service, Verdict
from analytics.together import Shared

CAN: Final = frozenset({Letter.A, Letter.B, Letter.C})
PATHS_TOLD: Final = 5
PEOPLE_TOLD: Final = 20
REASONS_TOLD: Final = 5
NOW: Final = "right now"
LIKELY_PERCENT: Final = 50
"""From this confidence on, those who share a cause are told in one sentence: it names that cause."""


@dataclass(frozen=True, slots=True)
class _Case:
    """Whether one workplace can use one service: the row of the path that carries the payload, if any."""

    member: Member
    service: Service
    row: PathRow | None
    without_row: Letter | None = None  # of a path that has a letter, and no row

    @property
    def letter(self) -> Letter:
        if self.row is None:
            return self.without_row or Letter.UNKNOWN
        return self.row.grade.letter

    @property
    def pair(self) -> tuple[str, str]:
        return self.service.agent, self.member.name


class Rest(NamedTuple):
    """What is known of the paths of a large fleet that have no row: they are counted, and not told of."""

    letters: Mapping[Letter, int]
    letter_of: Callable[[str, str], Letter | None]  # of a path; None: nothing is known of it


NO_REST: Final = Rest({}, lambda src, dst: None)


class _Said(NamedTuple):
    """A sentence, and how many paths or workplaces it is for."""

    sentence: str
    of: int


def verdict(
    profile: str,
    members: Sequence[Member],
    rows: Sequence[PathRow],
    rules: Rules,
    findings: Sequence[Finding] = (),
    *,
    when: str = NOW,
    rest: Rest = NO_REST,
) -> Verdict:
    """Judge a fleet for one profile; ``rows`` worst first, ``findings`` the causes that they share.

    ``when`` ends the headline: of the past, the moment. ``rest`` are the paths that have no row, none of them
    worse than those that have one. Raises ``RulesError`` for an unknown profile.
    """
    wanted = rules.profile(profile)
    services = [service for member in members for service in member.services if service.profile == profile]
    if len(members) < 2 or not rows:
        return _nothing_yet(members)
    if not services:
        return _of_paths(wanted, members, rows, findings, rest=rest.letters, when=when)
    cases = _cases(services, members, rows, rest)
    return _of_people(wanted, services, members, cases, findings, when=when)


def _nothing_yet(members: Sequence[Member]) -> Verdict:
    told = {
        0: "No agent is enrolled yet.",
        1: "One agent is enrolled; a path needs two.",
    }
    several = f"Nothing is measured yet: {len(members):,} agents are enrolled, the first cycle is not done."
    return Verdict(
        headline=told.get(len(members), several),
        details=[],
        can=[],
        cannot=[],
        unknown=sorted(member.name for member in members),
    )


# --- people and services ----------------------------------------------------------------------------------


def _of_people(
    profile: Profile,
    services: Sequence[Service],
    members: Sequence[Member],
    cases: Sequence[_Case],
    findings: Sequence[Finding],
    *,
    when: str,
) -> Verdict:
    by_service = [[case for case in cases if case.service == service] for service in services]
    able = [profile.words.able.format(service=service_name(service)) for service in services]
    headlines = [_headline(own, to_do, when) for own, to_do in zip(by_service, able, strict=True)]
    unknown = [case for case in cases if _state(case.letter) == "unknown"]
    several = len(services) > 1
    said = _cannot_sentences(cases, profile, members, findings, several=several)
    beyond = sum(case.row is None and _state(case.letter) == "cannot" for case in cases)
    return Verdict(
        headline=" ".join(headlines),
        details=[
            *_most(said, PEOPLE_TOLD, lambda left: f"{left:,} more cannot.", beyond=beyond),
            *_unknown_sentences(unknown, members),
        ],
        **_names(cases),
    )


def _cases(
    services: Sequence[Service], members: Sequence[Member], rows: Sequence[PathRow], rest: Rest
) -> list[_Case]:
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
    return [
        _Case(member, service, row, rest.letter_of(service.agent, member.name) if row is None else None)
        for _, row, member, service in ordered
    ]


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


def _headline(cases: Sequence[_Case], able: str, when: str) -> str:
    """Say '4 of 5 workplaces can open a CT from the PACS right now'."""
    if not cases:
        return f"No workplace is enrolled yet that could {able}."
    states = [_state(case.letter) for case in cases]
    total, can, unknown = len(states), states.count("can"), states.count("unknown")
    if unknown == total:
        who = "the one workplace" if total == 1 else f"the {total:,} workplaces"
        return f"Whether {who} can {able} is not known {when}."
    verb = "cannot" if total == 1 and not can else "can"
    return f"{_who(total, can, unknown)} {verb} {able} {when}{_rest(unknown)}."


def _who(total: int, can: int, unknown: int) -> str:
    if total == 1:
        return "The one workplace"
    if can == total:
        return f"All {total:,} workplaces"
    if can == 0 and not unknown:
        return f"None of the {total:,} workplaces"
    return f"{can:,} of {total:,} workplaces"


def _rest(unknown: int) -> str:
    if not unknown:
        return ""
    return f"; {unknown:,} {'is' if unknown == 1 else 'are'} not known"


def _cannot_sentences(
    cases: Sequence[_Case],
    profile: Profile,
    members: Sequence[Member],
    findings: Sequence[Finding],
    *,
    several: bool,
) -> list[_Said]:
    """One sentence for each who cannot; one for all whom the same cause, or the same cut, concerns."""
    shared = _by_pair(findings)
    cut = _cut_off(cases)
    groups: dict[Hashable, list[_Case]] = {}
    for case in cases:
        if _state(case.letter) == "cannot" and case.row is not None:
            groups.setdefault(_group(case, shared, cut), []).append(case)
    return [_cannot_sentence(own, profile, members, shared, cut, several=several) for own in groups.values()]


def _group(case: _Case, shared: Mapping[tuple[str, str], Finding], cut: frozenset[Hashable]) -> Hashable:
    """Cases with the same key are one sentence."""
    if case.letter is Letter.UNREACHABLE:
        keys: tuple[Hashable, ...] = (case.service, (case.service, case.member.site))
        return next((key for key in keys if key in cut), case.pair)
    finding = shared.get(case.pair)
    return case.pair if finding is None else (case.service, case.letter, finding.kind, finding.where)


def _cut_off(cases: Sequence[_Case]) -> frozenset[Hashable]:
    """Services that nobody reaches, and sites from which nobody reaches one; of two workplaces at least."""
    of: Counter[Hashable] = Counter()
    gone: Counter[Hashable] = Counter()
    for case in cases:
        keys: tuple[Hashable, ...] = (case.service, (case.service, case.member.site))
        of.update(keys)
        gone.update(keys if case.letter is Letter.UNREACHABLE else ())
    return frozenset(key for key, count in gone.items() if count == of[key] and count > 1)


def _cannot_sentence(
    cases: Sequence[_Case],
    profile: Profile,
    members: Sequence[Member],
    shared: Mapping[tuple[str, str], Finding],
    cut: frozenset[Hashable],
    *,
    several: bool,
) -> _Said:
    told = [
        Told(case.row, profile, case.member, case.service, several=several)
        for case in cases
        if case.row is not None  # as in all of these
    ]
    called = [person(case.member) for case in cases]
    if len(cases) > 1:
        several_of = Shared(told, called, shared.get(cases[0].pair), members)
        everybody = cases[0].service in cut
        grammar = together.NOBODY if everybody else together.SITE
        if cases[0].letter is not Letter.UNREACHABLE:
            grammar = together.SHARED
        return _Said(sentence(grammar, several_of), len(cases))
    if cases[0].letter is Letter.UNREACHABLE:
        return _Said(sentence(clauses.UNREACHABLE, told[0]), 1)
    return _Said(" ".join([sentence(clauses.CANNOT, told[0]), *clauses.causes(told[0])]), 1)


def _unknown_sentences(cases: Sequence[_Case], members: Sequence[Member]) -> list[str]:
    """One sentence a reason: 'Not known for the home reader (home): last measured 22 min ago'."""
    online = {member.name: member.online for member in members}
    by_reason: dict[str, list[_Case]] = {}
    for case in cases:
        by_reason.setdefault(_unknown_reason(case, online), []).append(case)
    said = [
        _Said(f"Not known for {names([person(case.member) for case in own])}: {reason}.", len(own))
        for reason, own in by_reason.items()
    ]
    return _most(said, REASONS_TOLD, lambda left: f"Not known for {left:,} more.")


def _unknown_reason(case: _Case, online: Mapping[str, bool]) -> str:
    reason = _why_unknown(case)
    if not online.get(case.service.agent, False):
        return f"the agent of the {service_name(case.service)} is not connected"
    if not case.member.online:
        return f"the agent there is not connected; {reason}"
    return reason


def _why_unknown(case: _Case) -> str:
    if case.row is not None:
        return why(case.row.grade.reason)
    return "not measured yet" if case.without_row is None else "too little is known to tell"


# --- paths --------------------------------------------------------------------------------------------------


def _of_paths(
    profile: Profile,
    members: Sequence[Member],
    rows: Sequence[PathRow],
    findings: Sequence[Finding],
    *,
    rest: Mapping[Letter, int],
    when: str,
) -> Verdict:
    """Without a service nobody in particular is served: count paths, and name the causes and the worst."""
    states = Counter(_state(row.grade.letter) for row in rows)
    for letter, count in rest.items():
        states[_state(letter)] += count
    beyond = sum(count for letter, count in rest.items() if _state(letter) == "cannot")
    shared = _by_pair(findings)
    groups: dict[Hashable, list[PathRow]] = {}
    for row in rows:
        if _state(row.grade.letter) == "cannot":
            pair = (row.src, row.dst)
            finding = shared.get(pair)
            groups.setdefault(pair if finding is None else (finding.kind, finding.where, ""), []).append(row)
    said = [_path_sentence(own, profile, members, shared) for own in groups.values()]
    return Verdict(
        headline=_paths_headline(states, profile.words.paths_able, when),
        details=_most(said, PATHS_TOLD, _more_paths, beyond=beyond),
        can=[],
        cannot=[],
        unknown=[],
    )


def _paths_headline(states: Counter[str], able: str, when: str) -> str:
    """Say '28 of 30 paths are good right now; 1 is not known'."""
    total, can, unknown = states.total(), states["can"], states["unknown"]
    if total == 1:
        return _one_path_headline(next(iter(states)), able, when)
    if unknown == total:
        return f"Whether the {total:,} paths {able} is not known {when}."
    if can == total:
        return f"All {total:,} paths {able} {when}."
    who = f"None of the {total:,}" if not can and not unknown else f"{can:,} of {total:,}"
    return f"{who} paths {able} {when}{_rest(unknown)}."


def _one_path_headline(state: str, able: str, when: str) -> str:
    told = able.removeprefix("are ")
    return {
        "can": f"The one path is {told} {when}.",
        "cannot": f"The one path is not {told} {when}.",
        "unknown": f"Whether the one path is {told} is not known {when}.",
    }[state]


def _more_paths(left: int) -> str:
    return "1 more path is not." if left == 1 else f"{left:,} more paths are not."


def _path_sentence(
    rows: Sequence[PathRow],
    profile: Profile,
    members: Sequence[Member],
    shared: Mapping[tuple[str, str], Finding],
) -> _Said:
    told = [Told(row, profile) for row in rows]
    if len(rows) > 1:
        finding = shared.get((rows[0].src, rows[0].dst))
        return _Said(sentence(together.TOGETHER, Shared(told, [], finding, members)), len(rows))
    if rows[0].grade.letter is Letter.UNREACHABLE:
        return _Said(sentence(clauses.UNREACHABLE, told[0]), 1)
    return _Said(" ".join([sentence(clauses.PATH, told[0]), *clauses.causes(told[0])]), 1)


# --- both ---------------------------------------------------------------------------------------------------


def _by_pair(findings: Sequence[Finding]) -> dict[tuple[str, str], Finding]:
    """The cause that explains each path, where one is likely: what two directions share says little."""
    likely = (finding for finding in findings if finding.confidence_percent >= LIKELY_PERCENT)
    return {(src, dst): finding for finding in likely for src, dst in finding.explains if _is_shared(finding)}


def _is_shared(finding: Finding) -> bool:
    """Whether more than the two directions of one pair share it."""
    return len({frozenset(pair) for pair in finding.explains}) > 1


def _most(said: Iterable[_Said], most: int, rest: Callable[[int], str], *, beyond: int = 0) -> list[str]:
    """Keep ``most`` sentences; ``rest`` says how many paths or workplaces the others were for.

    ``beyond`` are more that no sentence was made for.
    """
    all_of_it = list(said)
    left = sum(one.of for one in all_of_it[most:]) + beyond
    kept = [one.sentence for one in all_of_it[:most]]
    return [*kept, rest(left)] if left else kept
