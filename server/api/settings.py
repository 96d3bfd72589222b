"""The server's settings: for who runs it, not for who reads a report."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from server.api.access import Scope, TheVisitor, needs
from server.api.problem import ProblemError
from server.api.routes import answered


def router() -> APIRouter:
    """Build the route."""
    routes = APIRouter(prefix="/v1", tags=["admin"], dependencies=[needs(Scope.ADMIN)])

    @routes.get("/settings", summary="The server's settings, and where each comes from; no secrets")
    def settings(request: Request, visitor: TheVisitor) -> Response:
        if not visitor.runs_the_server:  # they name other tenants
            raise ProblemError(
                403,
                "Only for who runs the server",
                remedy="ask an admin of all tenants, or of the default one",
            )
        return answered(request.app.state.settings)

    return routes
