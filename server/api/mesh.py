"""The API's one door that changes something: tests on demand, and which paths matter.

There are no accounts yet, so it opens for this host only, whatever address the report listens on; and only to
a request whose body is JSON by its type, which a page of another site cannot make a browser send unasked
(https://fetch.spec.whatwg.org/#cors-preflight-fetch). Routes run on the event loop: what they call is quick.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Annotated, Any, Final, Protocol, TypeVar

import msgspec
from fastapi import APIRouter, Query, Request, Response

from analytics.measurement import Rung, named
from server.api.problem import ProblemError
from server.errors import DemandError

HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
MOST_BYTES: Final = 4_096


class MeshAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/mesh/runs``: one pair, or every pair of agents that are online."""

    src: Annotated[str, named("agent at one end")] | None = None
    dst: Annotated[str, named("agent at the other end")] | None = None
    all: bool = False


class MeshResult(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of a test on demand; what was not measured is null."""

    src: str
    dst: str
    rung: Rung
    rtt_p50_us: int | None = None
    loss_bp: int | None = None
    error: str = ""


class MeshRun(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run of tests on demand is."""

    id: str
    pairs: int
    pairs_ended: int
    started_us: int
    ended_us: int | None = None
    results: list[MeshResult] = []


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether an agent's paths, or those between two agents, matter: they are tested before others."""

    agent: Annotated[str, named("agent")]
    peer: Annotated[str, named("agent at the other end")] | None = None  # None: every path of the agent
    important: bool = True


class MeshDoor(Protocol):
    """What the routes need of the server; ``server.desk`` provides it. Raises ``DemandError``."""

    def run(self, ask: MeshAsk) -> MeshRun:
        """Start tests on demand."""

    def run_of(self, id_: str, since: int) -> MeshRun | None:
        """Say how far a run is, with its results from number ``since`` on."""

    def marks(self) -> list[Mark]:
        """List what is marked as important."""

    def mark(self, mark: Mark) -> list[Mark]:
        """Mark or unmark; returns what is marked then."""


def router(door: MeshDoor) -> APIRouter:
    """Build the routes under ``/v1/mesh``."""
    routes = APIRouter(prefix="/v1/mesh", tags=["mesh"])

    @routes.post("/runs", status_code=202, summary="Test one pair, or all, now (this host only)")
    async def run(request: Request) -> Response:
        ask = await body_of(request, MeshAsk)
        return json_of(or_problem(lambda: door.run(ask)), 202)

    @routes.get("/runs/{id}", summary="How far a run is; results from number 'since' on")
    async def run_of(id: str, since: Annotated[int, Query(ge=0)] = 0) -> Response:
        found = door.run_of(id, since)
        if found is None:
            raise ProblemError(404, f"no run is called {id!r}", remedy="POST /v1/mesh/runs starts one")
        return json_of(found)

    @routes.get("/marks", summary="What is marked as important")
    async def marks() -> Response:
        return json_of(door.marks())

    @routes.post("/marks", summary="Mark or unmark an agent or a pair as important (this host only)")
    async def mark(request: Request) -> Response:
        wanted = await body_of(request, Mark)
        return json_of(or_problem(lambda: door.mark(wanted)))

    return routes


T = TypeVar("T", bound=msgspec.Struct)


async def body_of(request: Request, kind: type[T]) -> T:
    """Read the body of a request from this host; raises ``ProblemError``."""
    if not _is_local(request):
        raise ProblemError(
            403, "Only from the server's own host", remedy="run the command there, as with ssh"
        )
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise ProblemError(415, "The body is not JSON by its type", remedy="Content-Type: application/json")
    if int(request.headers.get("content-length", MOST_BYTES + 1)) > MOST_BYTES:
        raise ProblemError(413, f"The body is over {MOST_BYTES} bytes, or does not say its length")
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.DecodeError as error:
        raise ProblemError(422, "The body does not fit", detail=str(error)) from error


def _is_local(request: Request) -> bool:
    """Say whether a request comes from this host, and by a name of it: another name may be a rebound one."""
    try:
        name = request.url.hostname or ""
        client = ipaddress.ip_address(request.client.host if request.client else "")
        return client.is_loopback and (name == "localhost" or ipaddress.ip_address(name).is_loopback)
    except ValueError:
        return False


def or_problem(act: Callable[[], Any]) -> Any:
    """Do what was asked for; raises ``ProblemError`` (409) with the reason where it cannot be had."""
    try:
        return act()
    except DemandError as error:
        raise ProblemError(409, str(error), remedy=error.remedy) from error


def json_of(value: object, status: int = 200) -> Response:
    """Answer with a value."""
    body = msgspec.json.encode(value)
    return Response(body, status_code=status, media_type="application/json", headers=HEADERS)
