"""The map of sites: who reaches whom by which rung. By topology, not by geography."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from analytics.overview import Metric
from server.api.access import Scope, TheCore, needs
from server.pages.frame import TheFrame
from server.pages.map_view import STYLE_WORDS, map_view
from server.pages.render import page


def router() -> APIRouter:
    """Build the route of the map; it is not part of the API."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/map")
    def sites(core: TheCore, frame: TheFrame) -> HTMLResponse:
        cells = core.matrix(frame.profile, Metric.LETTER, frame.at_us)
        view = map_view(core.members(), core.sites(frame.profile, frame.at_us), cells)
        return page("map.html", frame, view=view, style_words=STYLE_WORDS)

    return routes
