"""The front page: ``/``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from server.api.access import Scope, TheCore, needs
from server.pages.frame import TheFrame
from server.pages.overview_view import overview_view
from server.pages.render import page

All = Annotated[str, Query(max_length=4, description="with every row that the report has")]


def router() -> APIRouter:
    """Build the route of the front page; it is not part of the API."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/")
    def overview(core: TheCore, frame: TheFrame, rows: All = "") -> HTMLResponse:
        made = core.overview(frame.profile, frame.at_us)
        return page("overview.html", frame, view=overview_view(made, everything=rows == "all"), trend=None)

    return routes
