"""One agent: what is known of it, and its paths. Routes are plain functions, as those of ``routes.py``."""

from __future__ import annotations

from fastapi import APIRouter, Response

from server.api.access import Scope, TheCore, needs
from server.api.agent_info import AgentInfo
from server.api.core import ReportCore
from server.api.moments import At, read_moment
from server.api.problem import ProblemError
from server.api.routes import Limit, Profile, answered, profile_of


def router() -> APIRouter:
    """Build the routes under ``/v1``."""
    routes = APIRouter(prefix="/v1", tags=["read"], dependencies=[needs(Scope.READ)])

    @routes.get("/agents/{name}", summary="One agent: health, cost, NAT, switches, budget")
    def agent(core: TheCore, name: str) -> Response:
        return answered(agent_of(core, name))

    @routes.get("/agents/{name}/paths", summary="An agent's paths both ways, worst first")
    def paths(
        *, core: TheCore, name: str, profile: Profile = None, at: At = None, limit: Limit = 200
    ) -> Response:
        agent_of(core, name)
        return answered(core.agent_paths(name, profile_of(core, profile), read_moment("at", at), limit))

    @routes.get("/services/seen", summary="Ports that sessions ended at lately: perhaps services to tag")
    def seen(core: TheCore) -> Response:
        return answered(core.listeners())

    return routes


def agent_of(core: ReportCore, name: str) -> AgentInfo:
    """Find an agent; raises ``ProblemError`` (404)."""
    found = core.agent(name)
    if found is None:
        raise ProblemError(
            404, f"no agent is called {name!r}", remedy="pathgrade agents names them; the page is /agents"
        )
    return found
