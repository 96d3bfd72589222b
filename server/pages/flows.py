"""The passive flows: what the applications' own sessions saw, graded, and session by session."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from analytics.passive import Applications
from analytics.usage import By
from server.api.access import Scope, TheCore, needs
from server.api.core import OWN_PROCESS, ReportCore
from server.api.routes import Filter
from server.pages.frame import TheFrame
from server.pages.pieces import Start, piece_of
from server.pages.render import page

ROWS: Final = 100
"""Flows on one page."""
MOST: Final = 2_000
"""Flows that can be paged through: those of a day of one process may be millions."""
GRADED_SHOWN: Final = 10


def router() -> APIRouter:
    """Build the route."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/flows")
    def flows(
        *,
        core: TheCore,
        frame: TheFrame,
        agent: Filter = None,
        process: Filter = None,
        remote: Filter = None,
        own: Filter = None,
        start: Start = 0,
    ) -> HTMLResponse:
        # An empty field of the form comes as "", which means: any.
        asked: dict[str, Any] = {"agent": agent or None, "process": process or None, "remote": remote or None}
        but = None if own or process else OWN_PROCESS
        most = min(MOST, start + ROWS + 1)  # the next piece is known by its first row
        graded = not start and not (process or remote)
        return page(
            "flows.html",
            frame,
            piece=piece_of(core.flows(**asked, but=but, at_us=frame.at_us, limit=most), start, ROWS),
            applications=_graded(core, agent or None, frame.at_us, own=bool(own)) if graded else [],
            asked=asked,
            own_too=bool(own),
            most=MOST,
            members=core.members(frame.at_us),
        )

    return routes


def _graded(core: ReportCore, agent: str | None, at_us: int | None, *, own: bool) -> list[Applications]:
    but = None if own else OWN_PROCESS
    return [core.applications(by, agent=agent, but=but, at_us=at_us, limit=GRADED_SHOWN) for by in By]
