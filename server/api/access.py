"""Who asks, and what they may do: a route says what it needs, and is handed the parts of the asker's tenant.

A route declares ``dependencies=[needs(Scope.OPERATE)]`` and takes ``TheCore`` or ``TheDesk``: there is no way
from a request to another tenant's parts. A route for everybody declares ``public`` with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, Request

from analytics.overview import LetterCount
from analytics.trend import Trend
from server.api.alert_door import AlertDoor
from server.api.body import FORM_TYPE, fields_of, type_of
from server.api.core import ReportCore
from server.api.csrf import FIELD, HEADER, SAFE_METHODS, comes_from_elsewhere, is_csrf_token
from server.api.doors import Door
from server.api.problem import ProblemError
from server.database import DEFAULT_TENANT
from server.metrics.family import Family


class Scope(StrEnum):
    """What a request may do. A role or a token of more has those of less."""

    READ = "read"  # pages, reports, exports
    OPERATE = "operate"  # tests on demand, marks, tags, switches
    ADMIN = "admin"  # accounts, tokens, settings
    SELF = "self"  # one's own password and sessions: of who logged in, never a token's
    AGENT = "agent"  # the agent listener, and nothing at the report's


EVERYTHING: Final = frozenset({Scope.READ, Scope.OPERATE, Scope.ADMIN, Scope.SELF})
ALL_TENANTS: Final = "*"
"""The home of who belongs to no single tenant; no tenant can be called so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who asks."""

    name: str  # for the audit log: "ada", "token:lab", "oidc:ada", "proxy:ada"
    tenant: str  # that is looked at
    scopes: frozenset[Scope]
    home: str = ""  # the tenant that they belong to, or ALL_TENANTS; empty: as ``tenant``
    known: bool = True  # by a credential; False: who may read without one
    tenants: tuple[str, ...] = ()  # that they may look at, where there is a choice
    session: str = ""  # the hash of it, where they logged in
    csrf_key: bytes | None = field(default=None, repr=False)  # where a browser sends the credential unasked

    def may(self, scope: Scope | str) -> bool:
        """Tell whether they may do what needs this scope."""
        return scope in self.scopes

    @property
    def everywhere(self) -> bool:
        """Whether they may look at every tenant."""
        return self.home == ALL_TENANTS

    @property
    def runs_the_server(self) -> bool:
        """Whether what is of the whole server, such as its settings, is theirs to see."""
        return (self.home or self.tenant) in (ALL_TENANTS, DEFAULT_TENANT)


class Metered(Protocol):
    """Tells metrics; ``server.metrics.meter.Meter`` is one."""

    def families(self) -> Sequence[Family]:
        """Collect them; may take a while."""


class Hours(Protocol):
    """Tells what the paths were like hour by hour; ``server.trend.Trends`` does."""

    def of(self, profile: str, letters: list[LetterCount], at_us: int) -> Trend:
        """Tell the day before a moment that has these letters."""


class Noting(Protocol):
    """Keeps who took rows away; ``server.audit.Audit`` does."""

    def export(self, actor: str, subject: str, *, detail: str, sent_bytes: int, whole: bool) -> None:
        """Note a file, or the part of it that went out."""


class Part(Protocol):
    """What there is of one tenant; ``server.realm.Realm`` is one."""

    @property
    def audit(self) -> Noting:
        """Who took what away."""

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
    """Knows who asks; ``server.accounts.known`` does."""

    async def of(self, request: Request) -> Visitor:
        """Tell who asks; raises ``ProblemError``: 401 without a credential, or for one that is none."""


_now: ContextVar[Visitor | None] = ContextVar("visitor", default=None)


def visitor_now() -> Visitor | None:
    """Tell who asks for what is being answered; None on what is for everybody."""
    return _now.get()


async def _visitor(request: Request) -> Visitor:
    visitors: Visitors = request.app.state.visitors
    visitor = await visitors.of(request)
    _now.set(visitor)
    return visitor


TheVisitor = Annotated[Visitor, Depends(_visitor)]


async def _part(request: Request, visitor: TheVisitor) -> Part:
    parts: Parts = request.app.state.parts
    return parts.of(visitor.tenant)


ThePart = Annotated[Part, Depends(_part)]


async def _core(part: ThePart) -> ReportCore:
    return part.core


async def _desk(part: ThePart) -> Door:
    return part.desk


async def _alerts(part: ThePart) -> AlertDoor:
    return part.alerts


async def _meter(part: ThePart) -> Metered:
    return part.meter


async def _trends(part: ThePart) -> Hours:
    return part.trends


TheCore = Annotated[ReportCore, Depends(_core)]
TheDesk = Annotated[Door, Depends(_desk)]
TheAlerts = Annotated[AlertDoor, Depends(_alerts)]
TheMeter = Annotated[Metered, Depends(_meter)]
TheTrends = Annotated[Hours, Depends(_trends)]


def needs(scope: Scope) -> Any:
    """Refuse, before a route runs, who may not; raises ``ProblemError`` (401, 403).

    A change that a browser's session asks for must also be meant by who sits there: ``server.api.csrf``.
    """

    async def check(request: Request, visitor: TheVisitor) -> None:
        if not visitor.may(scope):
            raise _lacking(scope) if visitor.known else not_known()
        if request.method not in SAFE_METHODS and visitor.csrf_key is not None:
            await check_meant(request, visitor.csrf_key)

    check.scope = scope  # type: ignore[attr-defined]  # so that a test can read what a route needs
    return Depends(check)


def agents_only() -> Any:
    """Mark a route that asks for an agent's certificate itself (``server.credentials``)."""

    async def check() -> None:
        """Say nothing: the route refuses by the rules of its own protocol."""

    check.scope = Scope.AGENT  # type: ignore[attr-defined]  # as above
    return Depends(check)


def public(why: str) -> Any:
    """Mark a route as everybody's, and say why it is."""

    async def check() -> None:
        """Let everybody in."""

    check.public = why  # type: ignore[attr-defined]  # as above
    return Depends(check)


async def still_welcome(request: Request, scope: Scope) -> bool:
    """Tell whether who asked may go on to be answered; a stream that lasts asks now and then."""
    visitors: Visitors = request.app.state.visitors
    try:
        return (await visitors.of(request)).may(scope)
    except ProblemError:
        return False


async def check_meant(request: Request, key: bytes) -> None:
    """Refuse a change that a page of another site may have sent; raises ``ProblemError`` (403)."""
    own = getattr(request.app.state, "public_url", None)
    if comes_from_elsewhere(request.headers, own=own):
        raise ProblemError(
            403,
            "Another site's page sent this",
            remedy="send it from a page of this server; behind a proxy, set public_url to the URL people use",
        )
    token = request.headers.get(HEADER)
    if token is None and type_of(request) == FORM_TYPE:
        token = (await fields_of(request)).get(FIELD, [""])[0]
    if token is None or not is_csrf_token(key, token):
        raise ProblemError(
            403, "The page that sent this is too old", remedy="load it again, and send it once more"
        )


def not_known(why: str = "", *, remedy: str = "") -> ProblemError:
    """Ask who it is (RFC 9110, 15.5.2)."""
    return ProblemError(
        401,
        why or "Nobody is logged in",
        remedy=remedy
        or "log in at /login; a program sends Authorization: Bearer with an access token,\n"
        "which is made on the server: pathgrade server access-token NAME --data DIR",
        headers={"WWW-Authenticate": 'Bearer realm="pathgrade"'},
    )


def _lacking(scope: Scope) -> ProblemError:
    return ProblemError(403, *_LACKING[scope][:1], remedy=_LACKING[scope][1])


_LACKING: Final = {
    Scope.READ: ("Not for this credential: it needs scope read", "ask an admin for another token"),
    Scope.OPERATE: (
        "Not for this account or token: it needs scope operate",
        "ask an admin for the role operator, or for a token with --scope operate",
    ),
    Scope.ADMIN: (
        "Not for this account or token: it needs scope admin",
        "ask an admin; on the server, pathgrade server account makes one",
    ),
    Scope.SELF: ("Only for who logged in with an account of this server", "log in at /login"),
}
