"""Who asks, and what they may do: a route says what it needs, and is handed the parts of the asker's tenant.

A route declares ``dependencies=[needs(Scope.OPERATE)]`` and takes ``TheCore`` or ``TheDesk``: there is no way
from a request to another tenant's parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from analytics.overview import LetterCount
from analytics.trend import Trend
from server.api.alert_door import AlertDoor
from server.api.core import ReportCore
from server.api.doors import Door
from server.api.local import is_local
from server.api.problem import ProblemError
from server.metrics.family import Family


class Scope(StrEnum):
    """What a request may do. Each is asked for on its own: who may change settings need not see paths."""

    READ = "read"  # pages, reports, exports
    OPERATE = "operate"  # tests on demand, marks, tags, switches
    ADMIN = "admin"  # accounts, tokens, settings


EVERYTHING = frozenset(Scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who asks."""

    name: str
    tenant: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Tell whether they may do what needs this scope."""
        return scope in self.scopes


class Metered(Protocol):
    """Tells metrics; ``server.metrics.meter.Meter`` is one."""

    def families(self) -> Sequence[Family]:
        """Collect them; may take a while."""


class Hours(Protocol):
    """Tells what the paths were like hour by hour; ``server.trend.Trends`` does."""

    def of(self, profile: str, letters: list[LetterCount], at_us: int) -> Trend:
        """Tell the day before a moment that has these letters."""


class Part(Protocol):
    """What there is of one tenant; ``server.realm.Realm`` is one."""

    @property
    def core(self) -> ReportCore:
        """What can be read."""

    @property
    def desk(self) -> Door:
        """What can be changed."""

    @property
    def alerts(self) -> AlertDoor:
        """Alerts, and who is told of them."""

    @property
    def meter(self) -> Metered:
        """Everything in numbers."""

    @property
    def trends(self) -> Hours:
        """The paths of the last day."""


class Parts(Protocol):
    """The tenants' parts; ``server.realm.Realms`` are some."""

    def of(self, tenant: str) -> Part:
        """Find the parts of a tenant."""


class Visitors(Protocol):
    """Knows who asks."""

    async def of(self, request: Request) -> Visitor:
        """Tell who asks; raises ``ProblemError`` (401) for a credential that is none."""


@dataclass(frozen=True, slots=True)
class LocalVisitors:
    """Anyone may read; who asks from the server's own host may do everything."""

    tenant: str

    async def of(self, request: Request) -> Visitor:
        """As ``Visitors``."""
        scopes = EVERYTHING if is_local(request) else frozenset({Scope.READ})
        return Visitor(name="report", tenant=self.tenant, scopes=scopes)


async def _visitor(request: Request) -> Visitor:
    visitors: Visitors = request.app.state.visitors
    return await visitors.of(request)


TheVisitor = Annotated[Visitor, Depends(_visitor)]


async def _core(request: Request, visitor: TheVisitor) -> ReportCore:
    parts: Parts = request.app.state.parts
    return parts.of(visitor.tenant).core


async def _desk(request: Request, visitor: TheVisitor) -> Door:
    parts: Parts = request.app.state.parts
    return parts.of(visitor.tenant).desk


async def _alerts(request: Request, visitor: TheVisitor) -> AlertDoor:
    parts: Parts = request.app.state.parts
    return parts.of(visitor.tenant).alerts


async def _meter(request: Request, visitor: TheVisitor) -> Metered:
    parts: Parts = request.app.state.parts
    return parts.of(visitor.tenant).meter


async def _trends(request: Request, visitor: TheVisitor) -> Hours:
    parts: Parts = request.app.state.parts
    return parts.of(visitor.tenant).trends


TheCore = Annotated[ReportCore, Depends(_core)]
TheDesk = Annotated[Door, Depends(_desk)]
TheAlerts = Annotated[AlertDoor, Depends(_alerts)]
TheMeter = Annotated[Metered, Depends(_meter)]
TheTrends = Annotated[Hours, Depends(_trends)]


def needs(scope: Scope) -> Any:
    """Refuse, before a route runs, who may not; raises ``ProblemError`` (403)."""

    async def check(visitor: TheVisitor) -> None:
        if not visitor.may(scope):
            raise ProblemError(
                403, "Only from the server's own host", remedy="run the command there, as with ssh"
            )

    check.scope = scope  # type: ignore[attr-defined]  # so that a test can read what a route needs
    return Depends(check)
