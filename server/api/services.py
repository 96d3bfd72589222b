"""Services: what listens on a port of an agent's host, and the profile that its users' paths are graded by.

An agent offers services when it enrols. What it does not say is tagged here; a tag stands in place of an
offer of the same port.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from server.api.access import Scope, TheDesk, TheVisitor, needs
from server.api.body import body_of, json_of, or_problem
from server.api.doors import ServiceTag


def router() -> APIRouter:
    """Build the routes under ``/v1/services``."""
    routes = APIRouter(prefix="/v1/services", tags=["services"])

    @routes.get("", summary="What agents offer and what was tagged", dependencies=[needs(Scope.READ)])
    async def services(desk: TheDesk) -> Response:
        return json_of(desk.services())

    @routes.post(
        "",
        summary="Tag a port of an agent's host as a service, or not",
        dependencies=[needs(Scope.OPERATE)],
    )
    async def tag(request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        wanted = await body_of(request, ServiceTag)
        return json_of(or_problem(lambda: desk.tag(wanted, actor=visitor.name)))

    return routes
