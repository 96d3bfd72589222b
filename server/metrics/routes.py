"""``GET /metrics`` on the report listener, for Prometheus: the asker's tenant, in text."""

from __future__ import annotations

from fastapi import APIRouter, Response

from server.api.access import Scope, TheMeter, needs
from server.metrics.exposition import MEDIA_TYPE, exposition


def router() -> APIRouter:
    """Build the route; it is no part of the API."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/metrics", dependencies=[needs(Scope.READ)])
    def metrics(meter: TheMeter) -> Response:
        text = exposition(meter.families())
        return Response(text, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})

    return routes
