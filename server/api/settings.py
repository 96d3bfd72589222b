"""The server's settings: for who runs it, not for who reads a report."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from server.api.access import Scope, TheVisitor, needs
from server.api.accounts import check_everywhere
from server.api.routes import answered


def router() -> APIRouter:
    """Build the route."""
    routes = APIRouter(prefix="/v1", tags=["admin"], dependencies=[needs(Scope.ADMIN)])

    @routes.get("/settings", summary="The server's settings, and where each comes from; no secrets")
    def settings(request: Request, visitor: TheVisitor) -> Response:
        check_everywhere(visitor)  # all tenants share them
        return answered(request.app.state.settings)

    return routes
