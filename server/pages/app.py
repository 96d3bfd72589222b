"""The report listener's application: pages, read API, and how each says that something went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from analytics.errors import LakeError
from server.api import agents as agents_api
from server.api import alerts as alerts_api
from server.api import audit as audit_api
from server.api import control as control_api
from server.api import events as events_api
from server.api import history as history_api
from server.api import matrix as matrix_api
from server.api import mesh as mesh_api
from server.api import routes as api
from server.api import services as services_api
from server.api import settings as settings_api
from server.api.access import Parts, Visitors
from server.api.events import Events
from server.api.problem import Problem, ProblemError, problem_response
from server.metrics import routes as metrics
from server.pages import agents as agent_pages
from server.pages import alerts as alerts_page
from server.pages import audit as audit_pages
from server.pages import control as control_pages
from server.pages import flows as flow_pages
from server.pages import history as history_pages
from server.pages import map as site_map
from server.pages import matrix, overview, render
from server.pages import paths as path_pages
from server.pages import routes as pages
from server.pages import services as service_pages
from server.pages import settings as setting_pages
from server.problems import problem_of
from server.settings_told import SettingTold

COMPRESS_FROM: Final = 1_000
"""Bytes of an answer below which compression saves nothing. Pages carry no secret that it could leak."""


def report_app(
    parts: Parts,
    visitors: Visitors,
    *,
    version: str,
    events: Events | None = None,
    settings: Sequence[SettingTold] = (),
) -> FastAPI:
    """Build the application of the report listener: each request gets the parts of its asker's tenant.

    Who stops its server closes ``app.state.events`` first: a stream of events ends in no other way.
    """
    # FastAPI's own documentation pages load scripts from a CDN: only the OpenAPI document is served.
    app = FastAPI(
        title="pathgrade", version=version, openapi_url="/v1/openapi.json", docs_url=None, redoc_url=None
    )
    app.add_middleware(GZipMiddleware, minimum_size=COMPRESS_FROM)
    app.state.parts, app.state.visitors = parts, visitors
    app.state.events = events or Events()
    app.state.settings = list(settings)
    for router in (
        api.router(),
        events_api.router(),
        matrix_api.router(),
        history_api.router(),
        mesh_api.router(),
        control_api.router(),
        agents_api.router(),
        audit_api.router(),
        services_api.router(),
        settings_api.router(),
        alerts_api.router(),
        overview.router(),
        matrix.router(),
        site_map.router(),
        path_pages.router(),
        flow_pages.router(),
        service_pages.router(),
        audit_pages.router(),
        setting_pages.router(),
        agent_pages.router(),
        control_pages.router(),
        history_pages.router(),
        alerts_page.router(),
        metrics.router(),
        pages.assets_router(),
    ):
        app.include_router(router)
    for error, handler in _HANDLERS.items():
        app.add_exception_handler(error, handler)
    return app


def answer(request: Request, problem: Problem) -> Response:
    """Say a problem in the way of the door it came through: JSON under ``/v1``, a page elsewhere."""
    if request.url.path.startswith("/v1/"):
        return problem_response(problem)
    return render.message(problem)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return answer(request, error.problem)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    if error.status_code == HTTPStatus.NOT_FOUND:
        title = f"There is nothing at {request.url.path}"
    return answer(request, Problem(status=error.status_code, title=title, remedy="the report is at /"))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
    return answer(
        request,
        Problem(
            status=422,
            title="A parameter does not fit",
            detail=faults,
            remedy="see /v1/openapi.json for bounds",
        ),
    )


async def _on_fault(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this answer, so uvicorn logs it with its traceback.
    remedy = getattr(error, "remedy", "") or "the server's log has the cause"
    return answer(request, Problem(status=500, title="The server could not make this", remedy=remedy))


async def _on_lake(request: Request, error: Exception) -> Response:
    assert isinstance(error, LakeError)
    return answer(request, problem_of(error))


_HANDLERS: Final = {
    ProblemError: _on_problem,
    LakeError: _on_lake,
    HTTPException: _on_http,
    RequestValidationError: _on_invalid,
    Exception: _on_fault,
}
