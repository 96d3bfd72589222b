"""What the API can do, as OpenAPI (3.1): ``GET /v1/openapi.json``."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request, Response

from server.api.access import public
from server.api.body import json_of

PATH: Final = "/v1/openapi.json"


def add_description(app: FastAPI) -> None:
    """Add the route. FastAPI's own says nothing of who may read it; its pages load scripts from elsewhere."""

    @app.get(
        PATH, include_in_schema=False, dependencies=[public("it describes the API, and holds nothing else")]
    )
    async def description(request: Request) -> Response:
        return json_of(app.openapi())
