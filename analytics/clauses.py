"""The clauses of the verdict: what each says of one path, and nothing where it is not known. Pure.

READ FIRST: ``CANNOT`` and ``PATH``, the two sentences that these clauses make; ``CAUSES`` for what follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from analytics import words
from analytics.cause import blamed_leg
from analytics.grammar import Clause, called, says_site, sentence, why
from analytics.kinds.table import kind_of
from analytics.letters import CANNOT as CANNOT_FROM
from analytics.measurement import Leg, LegKind, Letter
from analytics.mixing import as_graded, as_served
from analytics.predict import Limit
from analytics.rules.load import Profile
from analytics.shapes import AddedLeg, Member, PathRow, Service

_BP: Final = 10_000


@dataclass(frozen=True, slots=True)
class Told:
    """One path that somebody cannot work over; without ``member`` and ``service`` it is only a path."""

    row: PathRow
    profile: Profile
    member: Member | None = None
    service: Service | None = None
    several: bool = False  # services: then the sentence names which one

    @property
    def towards(self) -> str:
        """What the far end is called."""
        return self.row.dst if self.member is None else called(self.member.label, self.member.name)


# --- who, and what they cannot ------------------------------------------------------------------------------


def person(member: Member) -> str:
    """Say 'the radiologist (hotel)'; the site is left out where the name says it."""
    name = called(member.label, member.name)
    return name if says_site(name, member.site) else f"{name} ({member.site})"


def service_name(service: Service) -> str:
    """What people call a service."""
    return called(service.name, service.agent)


def who(told: Told) -> str:
    """Begin a sentence with the workplace, or with the path."""
    if told.member is None:
        return f"{told.row.src} -> {told.row.dst}"
    return words.capital(person(told.member)) if called(told.member.label) else person(told.member)


def _cannot(told: Told) -> str:
    return cannot_words(told.profile, told.row.grade.letter)


def cannot_words(profile: Profile, letter: Letter) -> str:
    """What a letter means for the work: 'cannot read comfortably', 'cannot read'."""
    return profile.words.cannot_d if letter is Letter.D else profile.words.cannot_f


def _at(told: Told) -> str:
    return service_name(told.service) if told.several and told.service is not None else ""


def _letter(told: Told) -> str:
    return f"({told.row.grade.letter})"


# --- how much -----------------------------------------------------------------------------------------------


def _outcome(told: Told) -> str:
    """'a 50 MB CT takes about 41 s'; with a lower bound only, '41 s or more'; nothing without either."""
    grade, written = told.row.grade, kind_of(told.profile).written
    if grade.outcome is not None:
        return told.profile.words.outcome.format(outcome=written(grade.outcome))
    bound = grade.outcome_high if kind_of(told.profile).higher_is_better else grade.outcome_low
    if bound is None:
        return why(grade.reason)
    worse = "less" if kind_of(told.profile).higher_is_better else "more"
    return told.profile.words.outcome.format(outcome=f"{written(bound)} or {worse}")


def _usual_outcome(told: Told) -> str:
    """'6 s': what it was before it became slower; nothing where that reads the same, or is not known."""
    row, kind = told.row, kind_of(told.profile)
    if row.usual_outcome is None or row.grade.outcome is None:
        return ""
    usual, now = kind.written(row.usual_outcome), kind.written(row.grade.outcome)
    is_worse = (row.grade.outcome < row.usual_outcome) is kind.higher_is_better
    return usual if is_worse and usual != now else ""


def _doubt(told: Told) -> str:
    """Say what the samples allow at best, where that would be good enough: then D may be a C."""
    row, kind = told.row, kind_of(told.profile)
    if not kind.outcome_is_all or row.grade.outcome is None:
        return ""
    best = row.grade.outcome_high if kind.higher_is_better else row.grade.outcome_low
    line = kind.steps(told.profile)[CANNOT_FROM - 1]
    if best is None or (best < line if kind.higher_is_better else best > line):
        return ""
    if (row.grade.outcome >= line) if kind.higher_is_better else (row.grade.outcome <= line):
        return ""
    return f"{kind.written(best)}, which would do"


CANNOT: Final[tuple[Clause[Told], ...]] = (
    Clause(who),
    Clause(_cannot),
    Clause(_at, " at the "),
    Clause(_letter),
    Clause(_outcome, ": "),
    Clause(_usual_outcome, ", usually "),
    Clause(_doubt, "; the samples allow "),
)
"""'The radiologist (hotel) cannot read comfortably (D): a 50 MB CT takes about 41 s, usually 6 s.'"""

PATH: Final[tuple[Clause[Told], ...]] = (Clause(who), *CANNOT[3:])
"""'pacs -> radiologist (D): one in twenty round trips takes over 260 ms, usually 49 ms.'"""

UNREACHABLE: Final[tuple[Clause[Told], ...]] = (
    Clause(who),
    Clause(lambda told: "cannot connect"),
    Clause(lambda told: service_name(told.service) if told.service else "", " to the "),
    Clause(lambda told: unreachable_why(told.row), ": "),
)
"""'The radiologist (hotel) cannot connect to the PACS: srflx: no answer.'"""


def unreachable_why(row: PathRow) -> str:
    """Why no rung got through."""
    return why(row.grade.reason.removeprefix("cannot connect: "))


# --- what is to blame ---------------------------------------------------------------------------------------


def causes(told: Told) -> list[str]:
    """A sentence for each thing that the outcome waits for, the greatest first; by the letter's numbers."""
    row = as_graded(told.row)
    told = replace(told, row=row, profile=as_served(told.profile, row.fused))
    limits = kind_of(told.profile).limits(row, told.profile)
    return [said for limit in limits if (said := sentence(CAUSES[limit], told))]


def _latency(told: Told) -> str:
    """Say '212 of 260 ms is added between the hotel's gateway and its provider'."""
    row = told.row
    if row.added is not None:
        return slower_words(row, row.added)
    total = words.ms(row.rtt_min_us or row.rtt_p50_us or row.rtt_p95_us or 0)
    leg = blamed_leg(row)
    if leg is not None:
        return f"{words.ms(leg.rtt_us)} of {total} ms is added {place(leg, row)}{_usually(row)}"
    relay = ", by way of a relay" if row.rung.relayed else ""
    where = "no single leg explains it" if row.legs else "where it is added is not known"
    return f"The round trip is {total} ms{relay}{_usually(row)}; {where}"


def slower_words(row: PathRow, leg: AddedLeg) -> str:
    """Say '211 of 212 ms more than usual (49 ms) are added between the hotel's gateway and its provider'."""
    ways = {"forward": f", on the way to {row.dst}", "back": f", on the way from {row.dst}"}
    where = place(Leg(kind=leg.kind, site=leg.site, rtt_us=leg.added_us), row)
    usual = "" if row.usual_rtt_us is None else f" ({words.ms(row.usual_rtt_us)} ms)"
    since = "" if row.slower_since_us is None else f", since {words.since(row.slower_since_us, row.at_us)}"
    more = f"{words.ms(leg.added_us)} of {words.ms(leg.of_us)} ms more than usual{usual}"
    return f"{more} are added {where}{ways.get(leg.direction, '')}{since}"


def _usually(row: PathRow) -> str:
    """Say ' (usually 49 ms; slower since 09:41 UTC)' of one that is slower than usual; else nothing."""
    if row.usual_rtt_us is None or row.slower_since_us is None:
        return ""
    since = words.since(row.slower_since_us, row.at_us)
    return f" (usually {words.ms(row.usual_rtt_us)} ms; slower since {since})"


def _capacity(told: Told) -> str:
    if told.row.capacity_kbps is None:
        return ""
    relay = " through the relay" if told.row.rung.relayed else ""
    return f"Only {words.rate(told.row.capacity_kbps)} get to {told.towards}{relay}"


def _loss(told: Told) -> str:
    row = told.row
    if kind_of(told.profile).both_ways and (row.loss_back_bp or 0) > (row.loss_bp or 0):
        return f"{words.percent(row.worse_loss_bp / _BP)} of the packets from {told.towards} are lost"
    since = "" if row.lossy_since_us is None else f", since {words.since(row.lossy_since_us, row.at_us)}"
    return f"{words.percent((row.loss_bp or 0) / _BP)} of the packets to {told.towards} are lost{since}"


CAUSES: Final[dict[Limit, tuple[Clause[Told], ...]]] = {
    Limit.LATENCY: (Clause(_latency),),
    Limit.CAPACITY: (Clause(_capacity),),
    Limit.LOSS: (Clause(_loss),),
}


def place(leg: Leg, row: PathRow) -> str:
    """Say where a leg is in words that its owner knows."""
    relay = "on the way through the relay" if row.rung.relayed else "between the providers"
    agent = row.src if leg.kind is LegKind.SOURCE_HOST else row.dst
    host = f"between {agent} and the {leg.site}'s gateway"
    access = f"between the {leg.site}'s gateway and its provider"
    places: dict[LegKind, Callable[[], str]] = {
        LegKind.SOURCE_HOST: lambda: host if len(row.legs) > 1 else f"inside the {leg.site}'s own network",
        LegKind.SOURCE_ACCESS: lambda: access,
        LegKind.TRANSIT: lambda: relay,
        LegKind.DESTINATION_ACCESS: lambda: access,
        LegKind.DESTINATION_HOST: lambda: host,
    }
    return places[leg.kind]()
