"""The vendored files that the pages need."""

from __future__ import annotations

from fastapi import APIRouter, Response

from server.api.access import public
from server.api.problem import ProblemError
from server.pages import assets
from server.pages.assets import ASSETS


def assets_router() -> APIRouter:
    """Build the route of the vendored files: anyone's, as the page that asks who one is needs them too."""
    routes = APIRouter(include_in_schema=False)
    _add_assets(routes)
    return routes


def _add_assets(routes: APIRouter) -> None:
    @routes.get("/static/{name}", dependencies=[public("style and scripts: the login page needs them")])
    def static(name: str) -> Response:
        asset = ASSETS.get(name)
        if asset is None:
            raise ProblemError(404, f"There is nothing at /static/{name}", remedy="the report is at /")
        return Response(asset.body, media_type=asset.media_type, headers=assets.HEADERS)
