"""The audit log: filtered, in pieces, as JSON or CSV."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from server.api.access import Scope, TheCore, needs
from server.api.audits import AuditAsk, as_csv
from server.api.exported import TheExport
from server.api.moments import At, read_moment
from server.api.routes import HEADERS, Filter, Limit, answered, begun

JSON_LINES: Final = "application/jsonl"

Before = Annotated[int | None, Query(ge=0, le=2**53, description="rows with a smaller id: the next piece")]
Tests = Annotated[bool, Query(description="rows of tests, too: nearly all are")]


def asked(
    *,
    actor: Filter = None,
    action: Filter = None,
    subject: Filter = None,
    since: At = None,
    until: At = None,
    before: Before = None,
    tests: Tests = True,
    limit: Limit = 200,
) -> AuditAsk:
    """Read which rows are asked for; empty fields are of a form that was not filled in."""
    return AuditAsk(
        actor=actor or None,
        action=action or None,
        subject=subject or None,
        since_us=read_moment("since", since),
        until_us=read_moment("until", until),
        before=before,
        tests=tests,
        limit=limit,
    )


TheAsk = Annotated[AuditAsk, Depends(asked)]


def router() -> APIRouter:
    """Build the routes under ``/v1``."""
    routes = APIRouter(prefix="/v1", tags=["read"], dependencies=[needs(Scope.READ)])

    @routes.get("/audit", summary="Who did what to whom, newest first")
    def audit(core: TheCore, ask: TheAsk) -> Response:
        return answered(core.audit(ask))

    @routes.get("/audit.csv", summary="The same as a table for a spreadsheet")
    def audit_csv(core: TheCore, ask: TheAsk, export: TheExport) -> Response:
        body = export.sent("audit csv", as_csv(core.audit(ask)).encode())
        return Response(body, media_type="text/csv; charset=utf-8", headers=_named("pathgrade-audit.csv"))

    @routes.get("/audit/export", summary="All of it as chains of hashes, signed: pathgrade audit verify")
    def audit_chains(core: TheCore, export: TheExport) -> Response:
        pieces = export.counted("audit chains", begun(core.audit_file()))
        return StreamingResponse(pieces, media_type=JSON_LINES, headers=_named("pathgrade-audit.jsonl"))

    return routes


def _named(name: str) -> dict[str, str]:
    return {**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
