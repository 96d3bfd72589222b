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
        if not visitor.of_server:
            raise ProblemError(403, "Only for admins of the server", remedy="they are of the first tenant")
        return answered(request.app.state.settings)

    return routes
