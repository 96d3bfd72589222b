"""The pages of one path and of the passive flows, and the vendored files that all need."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from analytics.passive import Applications
from analytics.usage import By
from server.api.access import Scope, TheCore, needs, public
from server.api.core import OWN_PROCESS, ReportCore
from server.api.problem import ProblemError
from server.api.routes import Filter, detail_of, explanation_of
from server.pages import assets
from server.pages.assets import ASSETS
from server.pages.explained import sections
from server.pages.frame import TheFrame
from server.pages.render import page
from server.pages.views import path_view

FLOWS_SHOWN: Final = 200
GRADED_SHOWN: Final = 10


def router() -> APIRouter:
    """Build the routes of the pages; they are not part of the API."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])
    _add_path(routes)
    _add_flows(routes)
    return routes


def assets_router() -> APIRouter:
    """Build the route of the vendored files: anyone's, as the page that asks who one is needs them too."""
    routes = APIRouter(include_in_schema=False)
    _add_assets(routes)
    return routes


def _add_path(routes: APIRouter) -> None:
    @routes.get("/paths/{src}/{dst}")
    def path(core: TheCore, frame: TheFrame, src: str, dst: str) -> HTMLResponse:
        graded_for = frame.profile
        return page(
            "path.html",
            frame,
            view=path_view(detail_of(core, src, dst, graded_for), graded_for),
            steps=sections(explanation_of(core, src, dst, graded_for)),
            profile=graded_for,
        )


def _add_flows(routes: APIRouter) -> None:
    @routes.get("/flows")
    def flows(
        *,
        core: TheCore,
        frame: TheFrame,
        agent: Filter = None,
        process: Filter = None,
        remote: Filter = None,
        own: Filter = None,
    ) -> HTMLResponse:
        # An empty field of the form comes as "", which means: any.
        asked: dict[str, Any] = {"agent": agent or None, "process": process or None, "remote": remote or None}
        return page(
            "flows.html",
            frame,
            flows=core.flows(**asked, but=None if own or process else OWN_PROCESS, limit=FLOWS_SHOWN),
            applications=[] if process or remote else _graded(core, agent or None, own=bool(own)),
            asked=asked,
            own=bool(own),
            most=FLOWS_SHOWN,
            members=core.members(),
        )


def _graded(core: ReportCore, agent: str | None, *, own: bool) -> list[Applications]:
    but = None if own else OWN_PROCESS
    return [core.applications(by, agent=agent, but=but, limit=GRADED_SHOWN) for by in By]


def _add_assets(routes: APIRouter) -> None:
    @routes.get("/static/{name}", dependencies=[public("style and scripts: the login page needs them")])
    def static(name: str) -> Response:
        asset = ASSETS.get(name)
        if asset is None:
            raise ProblemError(404, f"There is nothing at /static/{name}", remedy="the report is at /")
        return Response(asset.body, media_type=asset.media_type, headers=assets.HEADERS)
