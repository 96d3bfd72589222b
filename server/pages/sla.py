"""The page ``/sla``: a month of a service, to read, to print, and to hand to a customer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from analytics.clock import now_us
from analytics.measurement import Letter
from analytics.report import Service
from analytics.rules.sla import Owner
from analytics.sla import Incident, Share, SlaReport, WorkplaceTime, month_at, month_of
from analytics.trust import key_text
from server.api.access import Scope, TheCore, needs
from server.api.routes import Profile
from server.api.sla import Named, OfMonth, services, sla_of
from server.pages import text
from server.pages.frame import TheFrame
from server.pages.render import page

UNKNOWN_MOST_BP: Final = 5_000
"""Of a month: where more is not known, a share of the rest would read as what it is not."""
INCIDENTS_SHOWN: Final = 60
"""The longest; the JSON has more."""
BAR_WIDTH: Final = 1000
OWNER_WORDS: Final[dict[Owner, str]] = {
    Owner.OURS: "ours",
    Owner.CUSTOMER: "the customer's",
    Owner.PROVIDER: "the provider's",
    Owner.UNKNOWN: "not known",
}
_MIN_US: Final = 60_000_000
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


@dataclass(frozen=True, slots=True)
class Piece:
    """One letter in a bar: ``x`` and ``width`` in units of ``BAR_WIDTH``."""

    letter: Letter
    x: int
    width: int
    share: str


@dataclass(frozen=True, slots=True)
class PlaceLine:
    """One workplace."""

    place: WorkplaceTime
    bar: list[Piece]
    could: str
    could_not: str
    unknown: str
    down: str


@dataclass(frozen=True, slots=True)
class IncidentLine:
    """One incident."""

    of: Incident
    since: str
    until: str
    took: str
    owner: str


@dataclass(frozen=True, slots=True)
class SlaView:
    """The page."""

    told: SlaReport
    month: str  # "November 2026"
    so_far: str  # until when; empty where the month is over
    headline: str
    legend: list[tuple[Letter, str, str]]  # letter, share, time
    bar: list[Piece]
    places: list[PlaceLine]
    incidents: list[IncidentLine]
    incidents_left_out: int
    owners: list[tuple[str, int, str]]  # in words, incidents, time
    before: str  # the month before, as a link has it
    after: str  # empty where it has not begun
    signed: str  # how many readings both ends signed; empty for none


def router() -> APIRouter:
    """Build the route of the page."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/sla")
    def sla(
        *,
        core: TheCore,
        frame: TheFrame,
        service: Named = None,
        month: OfMonth = None,
        profile: Profile = None,
    ) -> HTMLResponse:
        offered = services(core)
        wanted = month or month_at(frame.at_us or frame.now_us)
        told = sla_of(core, service, wanted, profile or None) if offered else None
        return page(
            "sla.html",
            frame,
            view=sla_view(told, now_us()) if told else None,
            key=key_text(core.signing_key()),
            chosen=_chosen(told, offered) if told else "",
            services=[(name_of(one, offered), f"{one.name} on {one.agent}") for one in offered],
            now_month=month_at(frame.now_us),
        )

    return routes


def name_of(service: Service, offered: Sequence[Service]) -> str:
    """Name a service as a link has it: by agent and port where its name is another's, too."""
    alone = sum(one.name == service.name for one in offered) == 1
    return service.name if alone else f"{service.agent}:{service.port}"


def _chosen(told: SlaReport, offered: Sequence[Service]) -> str:
    return next(name_of(one, offered) for one in offered if (one.agent, one.port) == (told.agent, told.port))


def sla_view(told: SlaReport, now: int) -> SlaView:
    """Lay a report out."""
    longest = sorted(told.incidents, key=lambda one: one.since_us - one.until_us)[:INCIDENTS_SHOWN]
    return SlaView(
        told=told,
        month=month_words(told.month),
        so_far="" if told.complete else text.clock(told.until_us),
        headline=_headline(told),
        legend=[(one.letter, percent(one.bp), hours(one.us)) for one in told.shares if one.us],
        bar=bar(told.shares),
        places=[_place(one) for one in told.workplaces],
        incidents=[_line(one) for one in sorted(longest, key=lambda one: (one.since_us, one.workplace))],
        incidents_left_out=told.incidents_left_out + len(told.incidents) - len(longest),
        owners=[(OWNER_WORDS[one.owner], one.incidents, hours(one.us)) for one in told.owners],
        before=_beside(told.month, -1),
        after=month if (month := _beside(told.month, 1)) <= month_at(now) else "",
        signed=_signed(told),
    )


def _headline(told: SlaReport) -> str:
    """Say 'People could work with the PACS 98.41 % of the time', or that too little of it is known."""
    if not told.workplaces:
        return f"No workplace uses the {told.service}."
    if told.unknown_bp > UNKNOWN_MOST_BP:
        return (
            f"Too little is known to say how much of the time people could work with the {told.service}: "
            f"{percent(told.unknown_bp)} is not."
        )
    known = "" if not told.unknown_bp else f"; {percent(told.unknown_bp)} is not known"
    return f"People could work with the {told.service} {percent(told.could_bp)} of the time{known}."


def _signed(told: SlaReport) -> str:
    if not told.readings_signed:
        return ""
    whole = f"{told.readings:,} readings from {told.agent} to workplaces"
    return f"{told.readings_signed:,} of {whole} are signed by both ends."


def month_words(month: str) -> str:
    """Write '2026-11' as 'November 2026'."""
    return f"{_MONTHS[int(month[5:]) - 1]} {month[:4]}"


def _beside(month: str, step: int) -> str:
    found = month_of(month)
    assert found is not None  # it is a report's
    return month_at(found.until_us) if step > 0 else month_at(max(0, found.since_us - 1))


def percent(bp: int) -> str:
    """Write basis points with both digits: a month's 0.01 % is four minutes."""
    return f"{bp / 100:.2f}{text.NBSP}%"


def hours(us: int) -> str:
    """Write a time in hours and minutes: '6 h 05 min', '25 min', and '< 1 min'."""
    minutes = us // _MIN_US
    if not minutes:
        return f"<{text.NBSP}1{text.NBSP}min" if us else f"0{text.NBSP}min"
    told = f"{minutes % 60:02d}" if minutes >= 60 else str(minutes)
    whole = f"{minutes // 60:,}{text.NBSP}h{text.NBSP}" if minutes >= 60 else ""
    return f"{whole}{told}{text.NBSP}min"


def bar(shares: Sequence[Share]) -> list[Piece]:
    """Lay shares out side by side; what there is of a letter is never too thin to be seen."""
    total = sum(one.us for one in shares) or 1
    found, x = [], 0
    for one in shares:
        width = max(2, round(BAR_WIDTH * one.us / total)) if one.us else 0
        width = min(width, BAR_WIDTH - x)
        if width:
            found.append(Piece(one.letter, x, width, percent(one.bp)))
        x += width
    return found


def _place(place: WorkplaceTime) -> PlaceLine:
    of = {one.letter: one.bp for one in place.shares}
    return PlaceLine(
        place=place,
        bar=bar(place.shares),
        could=percent(sum(of[letter] for letter in (Letter.A, Letter.B, Letter.C))),
        could_not=percent(sum(of[letter] for letter in (Letter.D, Letter.F, Letter.UNREACHABLE))),
        unknown=percent(of[Letter.UNKNOWN]),
        down=hours(place.down_us) if place.incidents else "",
    )


def _line(one: Incident) -> IncidentLine:
    return IncidentLine(
        of=one,
        since=_moment(one.since_us),
        until="lasts" if one.ongoing else _moment(one.until_us),
        took=hours(one.until_us - one.since_us),
        owner=OWNER_WORDS[one.owner],
    )


def _moment(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%d %b %H:%M")
