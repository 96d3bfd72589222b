"""Tests on demand, and which paths matter. Routes run on the event loop: what they call is quick."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from server.api.access import Scope, TheDesk, TheVisitor, needs
from server.api.body import body_of, json_of, or_problem
from server.api.doors import Mark, MeshAsk
from server.api.problem import ProblemError


def router() -> APIRouter:
    """Build the routes under ``/v1/mesh``."""
    routes = APIRouter(prefix="/v1/mesh", tags=["mesh"])

    @routes.post(
        "/runs", status_code=202, summary="Test one pair, or all, now", dependencies=[needs(Scope.OPERATE)]
    )
    async def run(request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        ask = await body_of(request, MeshAsk)
        return json_of(or_problem(lambda: desk.run(ask, actor=visitor.name)), 202)

    @routes.get(
        "/runs/{id}",
        summary="How far a run is; results from number 'since' on",
        dependencies=[needs(Scope.READ)],
    )
    async def run_of(id: str, desk: TheDesk, since: Annotated[int, Query(ge=0)] = 0) -> Response:
        found = desk.run_of(id, since)
        if found is None:
            raise ProblemError(404, f"no run is called {id!r}", remedy="POST /v1/mesh/runs starts one")
        return json_of(found)

    @routes.get("/marks", summary="What is marked as important", dependencies=[needs(Scope.READ)])
    async def marks(desk: TheDesk) -> Response:
        return json_of(desk.marks())

    @routes.post(
        "/marks",
        summary="Mark or unmark an agent or a pair as important",
        dependencies=[needs(Scope.OPERATE)],
    )
    async def mark(request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        wanted = await body_of(request, Mark)
        return json_of(or_problem(lambda: desk.mark(wanted, actor=visitor.name)))

    return routes
