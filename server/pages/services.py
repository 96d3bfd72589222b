"""The services: who can use each, and ports that could be tagged as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from analytics.letters import BAD
from analytics.overview import LetterCount, PathBrief
from analytics.report import Member, Service
from server.api.access import Scope, TheCore, needs
from server.api.agent_info import Listener
from server.api.core import ReportCore
from server.pages.frame import TheFrame
from server.pages.pieces import Start, piece_of
from server.pages.render import page

ROWS: Final = 25
"""Services on one page: each asks for all paths of its host."""
WORST: Final = 200
CANNOT_SHOWN: Final = 6
SEEN_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Line:
    """One service and its users: the agents whose path from it is graded for its profile."""

    service: Service
    host: Member
    letters: list[LetterCount]
    users: int
    cannot: list[PathBrief]  # the worst of those that cannot
    cannot_of: int


def router() -> APIRouter:
    """Build the route."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/services")
    def services(core: TheCore, frame: TheFrame, start: Start = 0) -> HTMLResponse:
        members = core.members(frame.at_us)
        offered = sorted(
            ((service, member) for member in members for service in member.services),
            key=lambda pair: (pair[0].name, pair[0].agent, pair[0].port),
        )
        piece = piece_of(offered, start, ROWS)
        return page(
            "services.html",
            frame,
            piece=piece,
            lines=[line_of(core, service, host, frame.at_us) for service, host in piece.rows],
            seen=untagged(core.listeners(), members)[:SEEN_SHOWN] if frame.at_us is None else [],
            members=members,
            profiles=core.profiles(),
        )

    return routes


def line_of(core: ReportCore, service: Service, host: Member, at_us: int | None) -> Line:
    """Say who can use a service: the payload goes from its host to its user."""
    paths = core.agent_paths(service.agent, service.profile, at_us, WORST)
    bad = [row for row in paths.out if row.letter in BAD]
    return Line(
        service=service,
        host=host,
        letters=paths.out_letters,
        users=paths.out_of,
        cannot=bad[:CANNOT_SHOWN],
        cannot_of=sum(count.paths for count in paths.out_letters if count.letter in BAD),
    )


def untagged(seen: list[Listener], members: list[Member]) -> list[Listener]:
    """Leave out what is a service already. Pure."""
    known = {(service.agent, service.port) for member in members for service in member.services}
    return [one for one in seen if (one.agent, one.port) not in known]
