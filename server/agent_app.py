"""The agent listener's application: enrolment, batches, control connections."""

from __future__ import annotations

import logging
from typing import Final

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from analytics.errors import AnalyticsError
from server.api.problem import Problem, problem_response
from server.errors import ServerError
from server.problems import headers_of, problem_of

log: Final = logging.getLogger("pathgrade.server.agents")


def agent_app(*routers: APIRouter) -> FastAPI:
    """Build the application; every error of a route becomes one problem+json."""
    app = FastAPI(title="pathgrade agent listener", openapi_url=None)
    for router in routers:
        app.include_router(router)
    for kind in (ServerError, AnalyticsError):
        app.add_exception_handler(kind, _on_known)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_fault)
    return app


async def _on_known(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServerError | AnalyticsError)
    problem = problem_of(error)
    log.warning("refused path=%s status=%d why=%r", request.url.path, problem.status, str(error)[:200])
    return problem_response(problem, headers=headers_of(problem))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    remedy = "agents only here; the report has an address of its own"
    return problem_response(Problem(status=error.status_code, title=str(error.detail), remedy=remedy))


async def _on_fault(request: Request, error: Exception) -> Response:
    log.error("failed path=%s why=%r", request.url.path, error)
    problem = Problem(status=500, title="The server failed", remedy="the server's log has the cause")
    return problem_response(problem)
