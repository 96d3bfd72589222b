"""The agents: all of them, and one."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from analytics.usage import By
from server.api.access import Scope, TheCore, needs
from server.api.agents import agent_of
from server.api.core import OWN_PROCESS
from server.api.routes import Filter
from server.pages import agents_view, control_words
from server.pages.agents_view import Wanted, Which
from server.pages.frame import TheFrame
from server.pages.nat_words import nat_sentences, nat_short
from server.pages.pieces import Start, piece_of
from server.pages.render import page

ROWS: Final = 100
"""Agents on one page."""
PATHS: Final = 50
"""Of one agent, each way: the worst."""
PROCESSES: Final = 20

Words = Annotated[str, Query(max_length=64, description="parts of name, site, label or tags")]


def router() -> APIRouter:
    """Build the routes."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/agents")
    def agents(
        *,
        core: TheCore,
        frame: TheFrame,
        q: Words = "",
        site: Filter = None,
        tag: Filter = None,
        which: Which = Which.ALL,
        start: Start = 0,
    ) -> HTMLResponse:
        known = core.agents()
        wanted = Wanted(words=q, site=site or "", tag=tag or "", which=which)
        return page(
            "agents.html",
            frame,
            fleet=agents_view.fleet_of(known),
            piece=piece_of(agents_view.listed(known, wanted), start, ROWS),
            wanted=wanted,
            whichs=[*Which],
            words=control_words,
            nat_short=nat_short,
        )

    @routes.get("/agents/{name}")
    def agent(core: TheCore, frame: TheFrame, name: str) -> HTMLResponse:
        found = agent_of(core, name)
        return page(
            "agent.html",
            frame,
            agent=found,
            state=agents_view.state_of(found),
            says=agents_view.says(found),
            lost=agents_view.lost(found.vitals) if found.vitals else "",
            nat=nat_sentences(found.nat) if found.online else [],
            paths=core.agent_paths(name, frame.profile, frame.at_us, PATHS),
            words=control_words,
        )

    @routes.get("/agents/{name}/processes")
    def processes(core: TheCore, frame: TheFrame, name: str, part: bool = False) -> HTMLResponse:
        agent_of(core, name)
        graded = core.applications(
            By.PROCESS, agent=name, but=OWN_PROCESS, at_us=frame.at_us, limit=PROCESSES
        )
        template = "processes_part.html" if part else "processes.html"
        return page(template, frame, name=name, processes=graded)

    return routes
