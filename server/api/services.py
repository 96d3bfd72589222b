"""Services: what listens on a port of an agent's host, and the profile that its users' paths are graded by.

An agent offers services when it enrols. What it does not say is tagged here; a tag stands in place of an
offer of the same port. Changing tags is for this host only, as in ``server.api.mesh``.
"""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec
from fastapi import APIRouter, Request, Response

from analytics.measurement import named, text, whole
from analytics.shapes import Service
from server.api.mesh import body_of, json_of, or_problem


class ServiceTag(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/services``: tag a port; with an empty name, take the tag off it."""

    agent: Annotated[str, named("agent on whose host it listens")]
    port: Annotated[int, whole("TCP port", "", ge=1, le=65535)]
    name: Annotated[str, text("what people call it, as in 'PACS'", most=60)] = ""
    profile: Annotated[str, named("application profile")] = "generic"


class ServiceDoor(Protocol):
    """What the routes need of the server; ``server.desk`` provides it. Raises ``DemandError``."""

    def services(self) -> list[Service]:
        """List what is offered and tagged, by agent and port."""

    def tag(self, tag: ServiceTag) -> list[Service]:
        """Tag a port, or take its tag off; returns what there is then."""


def router(door: ServiceDoor) -> APIRouter:
    """Build the routes under ``/v1/services``."""
    routes = APIRouter(prefix="/v1/services", tags=["services"])

    @routes.get("", summary="What agents offer and what was tagged")
    def services() -> Response:
        return json_of(door.services())

    @routes.post("", summary="Tag a port of an agent's host as a service, or not (this host only)")
    async def tag(request: Request) -> Response:
        wanted = await body_of(request, ServiceTag)
        return json_of(or_problem(lambda: door.tag(wanted)))

    return routes
