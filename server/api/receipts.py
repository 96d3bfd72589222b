"""Receipts as a file: what both ends of each test signed, to be checked with no server to believe."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from analytics.receipt_file import written
from server.api.access import Scope, TheCore, needs
from server.api.core import ReceiptRange, ReportCore
from server.api.exported import TheExport
from server.api.moments import At, read_moment
from server.api.routes import HEADERS, Filter, begun, check_agents
from server.api.sla import service_of

MEDIA_TYPE = "application/x-ndjson"
Named = Annotated[str | None, Query(max_length=128, description="with this service's agent at an end")]


def router() -> APIRouter:
    """Build the route under ``/v1``."""
    routes = APIRouter(prefix="/v1", tags=["sla"], dependencies=[needs(Scope.READ)])

    @routes.get("/receipts", summary="Readings with both ends' signatures, as JSON lines; a day unless asked")
    def receipts(
        *,
        core: TheCore,
        export: TheExport,
        service: Named = None,
        src: Filter = None,
        dst: Filter = None,
        since: At = None,
        until: At = None,
    ) -> Response:
        agents = None if service is None else frozenset({service_of(core, service).agent})
        _check(core, src, dst)
        asked = {"service": service, "src": src, "dst": dst}
        chosen = ReceiptRange(
            since_us=read_moment("since", since),
            until_us=read_moment("until", until),
            agents=_ends(agents, src, dst),
            src=src,
            dst=dst,
            words=", ".join(f"{name} {value}" for name, value in asked.items() if value is not None),
        )
        named = {"Content-Disposition": 'attachment; filename="pathgrade-receipts.jsonl"'}
        pieces = export.counted("receipts", begun(written(*core.receipts(chosen))))
        return StreamingResponse(pieces, media_type=MEDIA_TYPE, headers={**HEADERS, **named})

    return routes


def _check(core: ReportCore, src: str | None, dst: str | None) -> None:
    """Raise ``ProblemError`` (404) for an agent that nobody knows."""
    check_agents(core, *(name for name in (src, dst) if name is not None))


def _ends(agents: frozenset[str] | None, src: str | None, dst: str | None) -> frozenset[str] | None:
    """Narrow what the store reads to rows with one of these at an end."""
    named = frozenset(name for name in (src, dst) if name is not None)
    return agents if agents is not None else named or None
