"""The SLA report, drawn for a terminal."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from analytics.clock import now_us
from analytics.sla import SlaReport
from server.pages.sla import IncidentLine, PlaceLine, sla_view
from server.pages.tables import LETTER_STYLE, Column, draw, plain

_PLACES: Final[list[Column[PlaceLine]]] = [
    Column("workplace", lambda line: line.place.label or line.place.name, side="left"),
    Column("site", lambda line: line.place.site, side="left", from_width=80),
    Column("could work", lambda line: line.could),
    Column("could not", lambda line: line.could_not),
    Column("not known", lambda line: line.unknown),
    Column("incidents", lambda line: str(line.place.incidents), from_width=70),
    Column("down", lambda line: line.down, from_width=70),
]
_INCIDENTS: Final[list[Column[IncidentLine]]] = [
    Column("", lambda line: Text(line.of.worst.value, style=LETTER_STYLE[line.of.worst]), side="left"),
    Column("workplace", lambda line: line.of.workplace, side="left"),
    Column("since", lambda line: line.since, side="left"),
    Column("until", lambda line: line.until, side="left", from_width=70),
    Column("took", lambda line: line.took),
    Column("owner", lambda line: line.owner, side="left", from_width=90),
    Column("cause", lambda line: line.of.cause.sentence, side="left", from_width=110, wraps=True),
]


def report(told: SlaReport, width: int) -> RenderableType:
    """Draw a month: the sentence, shares, workplaces, incidents."""
    view = sla_view(plain(told), now_us())
    month = f"{view.told.service}, {view.month}{f', until {view.so_far}' if view.so_far else ''}"
    shares = ", ".join(f"{letter.value} {share}" for letter, share, _ in view.legend)
    owners = ", ".join(f"{words} {time}" for words, _, time in view.owners)
    incidents: list[RenderableType] = [Text(""), draw(_INCIDENTS, view.incidents, width)]
    return Group(
        Text(month, style="dim"),
        Text(view.headline, style="bold"),
        Text(shares),
        *([Text(f"Incidents by owner: {owners}")] if owners else []),
        *([Text(f"{view.signed} pathgrade receipt verify proves them.")] if view.signed else []),
        Text(""),
        draw(_PLACES, view.places, width),
        *(incidents if view.incidents else []),
        *([Text(f"and {view.incidents_left_out:,} shorter ones")] * bool(view.incidents_left_out)),
    )
