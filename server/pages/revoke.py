"""``/agents/NAME/revoke``: what revoking an agent means, and the button that does it.

A page of its own is the second look: it works without a script, and nothing is done by following a link.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from analytics.measurement import named
from server.api.access import Scope, TheCore, TheDesk, TheVisitor, needs
from server.api.agents import agent_of
from server.api.body import form_of, or_problem, see_other
from server.pages.control import Form, own
from server.pages.frame import TheFrame
from server.pages.render import page


class RevokeForm(Form, frozen=True, kw_only=True):
    """The agent that is let in no more."""

    agent: Annotated[str, named("agent")]


def router() -> APIRouter:
    """Build the routes; who may is who may by the API: ``DELETE /v1/agents/NAME``."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.ADMIN)])

    @routes.get("/agents/{name}/revoke")
    def ask(core: TheCore, frame: TheFrame, name: str) -> HTMLResponse:
        return page("agent_revoke.html", frame, agent=agent_of(core, name))

    @routes.post("/control/revoke")
    async def revoke(request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        form = await form_of(request, RevokeForm)
        or_problem(lambda: desk.control.revoke(form.agent, actor=visitor.name))
        return see_other(own(form.back))

    return routes
