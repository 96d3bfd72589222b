"""Control: active tests on or off, tags, budgets. Routes run on the event loop: what they call is quick."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from server.api.access import Scope, TheDesk, TheVisitor, needs
from server.api.body import body_of, json_of, or_problem
from server.api.controls import BudgetAsk, SwitchAsk, TagsAsk


def router() -> APIRouter:
    """Build the routes under ``/v1``."""
    routes = APIRouter(prefix="/v1", tags=["control"])
    _add_switches(routes)
    _add_tags(routes)
    _add_revocation(routes)
    _add_budgets(routes)
    return routes


def _add_switches(routes: APIRouter) -> None:
    @routes.get(
        "/mesh/switches",
        summary="Where active tests are switched off, by whom and since when",
        dependencies=[needs(Scope.READ)],
    )
    async def switches(desk: TheDesk) -> Response:
        return json_of(desk.control.switches())

    @routes.post(
        "/mesh/switches",
        summary="Switch active tests on or off for the fleet, a site or an agent",
        dependencies=[needs(Scope.OPERATE)],
    )
    async def switch(request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        ask = await body_of(request, SwitchAsk)
        return json_of(or_problem(lambda: desk.control.switch(ask, actor=visitor.name)))


def _add_tags(routes: APIRouter) -> None:
    @routes.get("/agents/{name}/tags", summary="An agent's tags", dependencies=[needs(Scope.READ)])
    async def tags(name: str, desk: TheDesk) -> Response:
        return json_of(or_problem(lambda: desk.control.tags(name), 404))

    @routes.post(
        "/agents/{name}/tags",
        summary="Put tags on an agent and take tags off",
        dependencies=[needs(Scope.OPERATE)],
    )
    async def tag(name: str, request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        ask = await body_of(request, TagsAsk)
        return json_of(or_problem(lambda: desk.control.tag(name, ask, actor=visitor.name)))


def _add_revocation(routes: APIRouter) -> None:
    @routes.delete(
        "/agents/{name}",
        summary="Revoke an agent: it comes back only with a token that replaces it",
        dependencies=[needs(Scope.ADMIN)],
        status_code=204,
    )
    async def revoke(name: str, desk: TheDesk, visitor: TheVisitor) -> Response:
        or_problem(lambda: desk.control.revoke(name, actor=visitor.name), 404)
        return Response(status_code=204)


def _add_budgets(routes: APIRouter) -> None:
    @routes.get(
        "/budgets",
        summary="What active tests may take: the setting, and what was set instead of it",
        dependencies=[needs(Scope.READ)],
    )
    async def budgets(desk: TheDesk) -> Response:
        return json_of(desk.control.budgets())

    @routes.post(
        "/budgets",
        summary="Set what each agent of a fleet or site, or one agent, may spend on active tests",
        dependencies=[needs(Scope.OPERATE)],
    )
    async def budget(request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        ask = await body_of(request, BudgetAsk)
        return json_of(or_problem(lambda: desk.control.budget(ask, actor=visitor.name)))
