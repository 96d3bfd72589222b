"""The front page: ``/``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from server.api.access import Scope, TheCore, TheTrends, needs
from server.pages.frame import TheFrame
from server.pages.overview_view import overview_view
from server.pages.render import page
from server.pages.trend_view import trend_view

All = Annotated[str, Query(max_length=4, description="with every row that the report has")]


def router() -> APIRouter:
    """Build the route of the front page; it is not part of the API."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/")
    def overview(core: TheCore, trends: TheTrends, frame: TheFrame, rows: All = "") -> HTMLResponse:
        made = core.overview(frame.profile, frame.at_us)
        return page(
            "overview.html",
            frame,
            view=overview_view(made, everything=rows == "all"),
            trend=trend_view(trends.of(frame.profile, made.letters, made.at_us)),
        )

    return routes
