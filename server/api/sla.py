"""The SLA report: a month of a service as signed JSON, and the key to check it with.

The body is what is signed, byte by byte; the signature stands beside it, in a header
(``analytics.trust.check_statement``).
"""

from __future__ import annotations

import base64
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from analytics.clock import now_us
from analytics.report import Service
from analytics.sla import Month, SlaReport, month_at, month_of
from analytics.trust import key_text
from server.api.access import Scope, TheCore, needs
from server.api.core import ReportCore
from server.api.exported import TheExport
from server.api.problem import ProblemError
from server.api.routes import HEADERS, Profile, answered
from server.api.sla_shapes import KEY, SIGNATURE, SlaKey

Named = Annotated[
    str | None, Query(max_length=128, description="service by its name, or as agent:port; default: the first")
]
OfMonth = Annotated[str | None, Query(max_length=10, description="as in 2026-11; default: the one that runs")]


def router() -> APIRouter:
    """Build the routes under ``/v1/sla``."""
    routes = APIRouter(prefix="/v1/sla", tags=["sla"], dependencies=[needs(Scope.READ)])

    @routes.get("", summary="A month of a service: time by letter, incidents, causes; signed")
    def sla(
        *,
        core: TheCore,
        export: TheExport,
        service: Named = None,
        month: OfMonth = None,
        profile: Profile = None,
    ) -> Response:
        body = export.sent("sla", msgspec.json.encode(sla_of(core, service, month, profile)))
        signed = {
            SIGNATURE: base64.b64encode(core.signed(body)).decode(),
            KEY: key_text(core.signing_key()),
        }
        return Response(body, media_type="application/json", headers={**HEADERS, **signed})

    @routes.get("/key", summary="The public key that reports are signed with")
    def key(core: TheCore) -> Response:
        return answered(SlaKey(key=key_text(core.signing_key())))

    return routes


def sla_of(core: ReportCore, service: str | None, month: str | None, profile: str | None) -> SlaReport:
    """Count a month; raises ``ProblemError``: 404 for an unknown service or profile, 422 for no month."""
    chosen = service_of(core, service)
    return core.sla(_graded_for(core, chosen, profile), read_month(month))


def services(core: ReportCore) -> list[Service]:
    """List what is offered or tagged, by name."""
    found = [service for member in core.members() for service in member.services]
    return sorted(found, key=lambda one: (one.name.casefold(), one.agent, one.port))


def service_of(core: ReportCore, asked: str | None) -> Service:
    """Find a service by name or as agent:port, the first if None; raises ``ProblemError`` (404, 422)."""
    known = services(core)
    fits = [one for one in known if asked in (None, "", one.name, f"{one.agent}:{one.port}")]
    if not known:
        raise ProblemError(
            404, "There is no service", remedy="pathgrade services tag AGENT:PORT NAME PROFILE"
        )
    if not fits:
        names = ", ".join(dict.fromkeys(one.name for one in known))
        raise ProblemError(404, f"no service is called {asked!r}", remedy=f"one of: {names}")
    if asked and len(fits) > 1:
        ways = ", ".join(f"{one.agent}:{one.port}" for one in fits)
        raise ProblemError(422, f"several services are called {asked!r}", remedy=f"one of: {ways}")
    return fits[0]


def read_month(asked: str | None) -> Month:
    """Read a month, the one that runs if None; raises ``ProblemError`` (422)."""
    now = now_us()
    found = month_of(asked or month_at(now))
    if found is None:
        raise ProblemError(422, f"{asked!r} is no month", remedy="write it as 2026-11")
    if found.since_us > now:
        raise ProblemError(422, f"{asked} has not begun", remedy="name a month of the past; times are UTC")
    return found


def _graded_for(core: ReportCore, service: Service, profile: str | None) -> Service:
    chosen = profile or service.profile
    if chosen not in core.profiles():
        known = ", ".join(core.profiles())
        raise ProblemError(404, f"no profile is called {chosen!r}", remedy=f"one of: {known}")
    return msgspec.structs.replace(service, profile=chosen)
