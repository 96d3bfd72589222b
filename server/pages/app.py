"""The report listener's application: pages, read API, and how each says that something went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from analytics.errors import LakeError
from server.accounts.office import Office
from server.api import accounts as accounts_api
from server.api import agents as agents_api
from server.api import alerts as alerts_api
from server.api import audit as audit_api
from server.api import control as control_api
from server.api import events as events_api
from server.api import history as history_api
from server.api import matrix as matrix_api
from server.api import mesh as mesh_api
from server.api import policies as policy_api
from server.api import receipts as receipts_api
from server.api import routes as api
from server.api import services as services_api
from server.api import settings as settings_api
from server.api import sla as sla_api
from server.api.access import Parts, Visitors
from server.api.body import see_other
from server.api.description import add_description
from server.api.events import Events
from server.api.problem import Problem, ProblemError, problem_response
from server.errors import ServerError
from server.etag import ETags
from server.metrics import routes as metrics
from server.pages import access, account, door, matrix, overview, render
from server.pages import agents as agent_pages
from server.pages import alerts as alerts_page
from server.pages import audit as audit_pages
from server.pages import control as control_pages
from server.pages import flows as flow_pages
from server.pages import history as history_pages
from server.pages import map as site_map
from server.pages import paths as path_pages
from server.pages import revoke as revoke_pages
from server.pages import routes as pages
from server.pages import services as service_pages
from server.pages import settings as setting_pages
from server.pages import sla as sla_pages
from server.problems import headers_of, problem_of
from server.settings_told import SettingTold

COMPRESS_FROM: Final = 1_000
"""Bytes of an answer below which compression saves nothing. The tokens in pages are others each time."""
COMPRESS_LEVEL: Final = 4
"""It is done on the event loop: a third of the time of the highest level, for a tenth more bytes."""


def report_app(
    parts: Parts,
    visitors: Visitors,
    *,
    version: str,
    office: Office | None = None,
    events: Events | None = None,
    settings: Sequence[SettingTold] = (),
) -> FastAPI:
    """Build the application of the report listener: each request gets the parts of its asker's tenant.

    Without an office, nobody logs in: ``visitors`` knows by itself who asks. Who stops its server closes
    ``app.state.events`` first: a stream of events ends in no other way.
    """
    app = FastAPI(title="pathgrade", version=version, openapi_url=None)
    add_description(app)
    app.add_middleware(ETags)  # inside: what is compressed has no name of its own
    app.add_middleware(GZipMiddleware, minimum_size=COMPRESS_FROM, compresslevel=COMPRESS_LEVEL)
    app.state.parts, app.state.visitors = parts, visitors
    app.state.office = office
    app.state.public_url = office.public_url if office is not None else None
    app.state.events = events or Events()
    app.state.settings = list(settings)
    offices = (accounts_api.router(), door.router(), account.router(), access.router())
    for router in (
        api.router(),
        events_api.router(),
        matrix_api.router(),
        history_api.router(),
        sla_api.router(),
        receipts_api.router(),
        mesh_api.router(),
        control_api.router(),
        policy_api.router(),
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
        revoke_pages.router(),
        history_pages.router(),
        sla_pages.router(),
        alerts_page.router(),
        metrics.router(),
        pages.assets_router(),
        *(offices if office is not None else ()),
    ):
        app.include_router(router)
    for error, handler in _HANDLERS.items():
        app.add_exception_handler(error, handler)
    return app


def answer(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Say a problem in the way of the door it came through: JSON under ``/v1``, a page elsewhere."""
    if request.url.path.startswith("/v1/"):
        return problem_response(problem, headers=headers)
    if problem.status == HTTPStatus.UNAUTHORIZED and request.app.state.office is not None:
        return _to_login(request)
    return render.problem_part(problem) if "hx-request" in request.headers else render.message(problem)


def _to_login(request: Request) -> Response:
    """Send a browser to where one logs in, and back from there; htmx follows no redirect of its own."""
    if "hx-request" in request.headers:
        return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": "/login"})
    if request.method != "GET":
        return see_other("/login")
    then = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return see_other("/login" if then == "/" else f"/login?next={quote(then, safe='/')}")


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return answer(request, error.problem, error.headers)


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


async def _on_known(request: Request, error: Exception) -> Response:
    assert isinstance(error, LakeError | ServerError)
    problem = problem_of(error)
    return answer(request, problem, headers_of(problem))


_HANDLERS: Final = {
    ProblemError: _on_problem,
    LakeError: _on_known,
    ServerError: _on_known,
    HTTPException: _on_http,
    RequestValidationError: _on_invalid,
    Exception: _on_fault,
}
