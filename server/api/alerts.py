"""Alerts: those that are open, those that were; who has seen one; silences; whether receivers are reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from analytics.clock import now_us
from analytics.moments import EXAMPLES, moment_us
from server.api.access import Scope, TheAlerts, TheVisitor, needs
from server.api.alert_door import AckAsk, SilenceAsk, TestAsk
from server.api.body import HEADERS, body_of, json_of
from server.api.problem import ProblemError
from server.errors import AlertError

Since = Annotated[
    str | None, Query(max_length=40, description=f"also those that were over since then, as {EXAMPLES}")
]
Then = Annotated[str | None, Query(max_length=40, description="as it was at this past moment")]
Limit = Annotated[int, Query(ge=1, le=5_000, description="at most so many of each")]
Id = Annotated[str, Path(max_length=64)]


def router() -> APIRouter:
    """Build the routes under ``/v1/alerts`` and ``/v1/silences``."""
    routes = APIRouter(prefix="/v1", tags=["alerts"])
    _add_alerts(routes)
    _add_silences(routes)
    _add_receivers(routes)
    return routes


def _add_alerts(routes: APIRouter) -> None:
    @routes.get(
        "/alerts", summary="Open alerts, the worst first, and past ones", dependencies=[needs(Scope.READ)]
    )
    def alerts(door: TheAlerts, since: Since = None, at: Then = None, limit: Limit = 500) -> Response:
        return json_of(door.alerts(since_of(since), limit, at_us=since_of(at)))

    @routes.post(
        "/alerts/{id}/ack", summary="Say that somebody has seen it", dependencies=[needs(Scope.OPERATE)]
    )
    async def acknowledge(request: Request, id: Id, door: TheAlerts, visitor: TheVisitor) -> Response:
        ask = await body_of(request, AckAsk)
        return json_of(await asked(lambda: door.acknowledge(id, ask, actor=visitor.name)))


def _add_silences(routes: APIRouter) -> None:
    @routes.get("/silences", summary="What receivers are not told of", dependencies=[needs(Scope.READ)])
    def silences(door: TheAlerts) -> Response:
        return json_of(door.silences())

    @routes.post(
        "/silences",
        status_code=201,
        summary="Keep receivers from being told of some alerts",
        dependencies=[needs(Scope.OPERATE)],
    )
    async def silence(request: Request, door: TheAlerts, visitor: TheVisitor) -> Response:
        ask = await body_of(request, SilenceAsk)
        return json_of(await asked(lambda: door.silence(ask, actor=visitor.name)), 201)

    @routes.delete(
        "/silences/{id}", status_code=204, summary="End a silence", dependencies=[needs(Scope.OPERATE)]
    )
    async def unsilence(id: Id, door: TheAlerts, visitor: TheVisitor) -> Response:
        await asked(lambda: door.unsilence(id, actor=visitor.name))
        return Response(status_code=204, headers=HEADERS)


def _add_receivers(routes: APIRouter) -> None:
    @routes.get(
        "/alerts/receivers", summary="Who is told, and what became of it", dependencies=[needs(Scope.READ)]
    )
    def receivers(door: TheAlerts) -> Response:
        return json_of(door.receivers())

    @routes.post(
        "/alerts/receivers/{name}/test",
        summary="Send a receiver a test alert now",
        dependencies=[needs(Scope.OPERATE)],
    )
    async def test(request: Request, name: Id, door: TheAlerts, visitor: TheVisitor) -> Response:
        await body_of(request, TestAsk)
        try:
            return json_of(await door.test(name, actor=visitor.name))
        except AlertError as error:
            raise _problem(error) from error


def since_of(text: str | None) -> int | None:
    """Read a moment, as us since 1970 or as people write it; raises ``ProblemError`` (422)."""
    if text is None or text == "":
        return None
    found = int(text) if text.isascii() and text.isdigit() else moment_us(text, now_us())
    if found is None or found >= 2**62:
        raise ProblemError(422, f"{text!r} is not a moment", remedy=f"as {EXAMPLES}, or us since 1970")
    return found


async def asked(act: Callable[[], Any]) -> Any:
    """Do what may wait for the disk, in a worker thread; raises ``ProblemError`` (404) where it cannot be."""
    try:
        return await asyncio.to_thread(act)
    except AlertError as error:
        raise _problem(error) from error


def _problem(error: AlertError) -> ProblemError:
    return ProblemError(error.status, str(error), remedy=error.remedy)
