"""``/account``: one's own password and sessions, and which tenant one looks at."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from server.accounts.office import Office
from server.accounts.people import AccountChange
from server.accounts.rows import LAST_WORD
from server.accounts.sessions import PASSWORD, Live, Person
from server.api.access import Scope, TheVisitor, Visitor, needs, not_known
from server.api.accounts import TheOffice
from server.api.body import form_of, see_other
from server.api.problem import ProblemError
from server.errors import DemandError
from server.pages.door import safe_path
from server.pages.render import page

OWN: Final = [needs(Scope.SELF)]
Typed = Annotated[str, msgspec.Meta(max_length=2_000)]


class PasswordForm(msgspec.Struct, kw_only=True):
    """A new password of one's own."""

    old: Typed
    new: Typed
    again: Typed


class EndForm(msgspec.Struct, kw_only=True):
    """Which sessions of one's own are to end."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{12}\Z")] | None = None
    others: bool = False


class TenantForm(msgspec.Struct, kw_only=True):
    """Which tenant to look at."""

    tenant: Typed
    next: str = "/"


def router() -> APIRouter:
    """Build the routes; they are not part of the API."""
    routes = APIRouter(include_in_schema=False)
    _add_page(routes)
    _add_password(routes)
    _add_sessions(routes)
    _add_tenant(routes)
    return routes


def _add_page(routes: APIRouter) -> None:
    @routes.get("/account", dependencies=OWN)
    async def account(office: TheOffice, visitor: TheVisitor) -> HTMLResponse:
        return await _page(office, visitor)


def _add_password(routes: APIRouter) -> None:
    @routes.post("/account/password", dependencies=OWN)
    async def password(request: Request, office: TheOffice, visitor: TheVisitor) -> Response:
        sent, live = await form_of(request, PasswordForm), _live(office, visitor)
        address = office.address_of(request)
        try:
            await _check_old(office, live, sent, address)
            change = AccountChange(password=sent.new)
            await office.act(office.people.change, live.name, change, by=visitor.name)
        except DemandError as error:
            return await _page(office, visitor, status=409, said=f"{error}: {error.remedy}.")
        person = Person(name=live.name, origin=live.origin, home=live.home, role=live.role)
        browser = request.headers.get("user-agent", "")[:LAST_WORD]
        secret = await office.act(office.sessions.begin, person, address=address, browser=browser)
        answer = see_other("/account")
        office.let_in(request, answer, secret)
        return answer


def _add_sessions(routes: APIRouter) -> None:
    @routes.post("/account/sessions", dependencies=OWN)
    async def sessions(request: Request, office: TheOffice, visitor: TheVisitor) -> Response:
        sent = await form_of(request, EndForm)
        await office.act(office.sessions.end, _live(office, visitor), sent.id, others=sent.others)
        return see_other("/account")


def _add_tenant(routes: APIRouter) -> None:
    @routes.post("/account/tenant", dependencies=OWN)
    async def tenant(request: Request, office: TheOffice, visitor: TheVisitor) -> Response:
        sent = await form_of(request, TenantForm)
        if not visitor.everywhere:
            raise ProblemError(403, "That tenant is not yours to see", remedy=f"yours is {visitor.tenant}")
        if not await office.act(office.sessions.look_at, visitor.session, sent.tenant):
            raise ProblemError(404, f"no tenant is called {sent.tenant!r}", remedy="choose another")
        return see_other(safe_path(sent.next))


async def _check_old(office: Office, live: Live, sent: PasswordForm, address: str) -> None:
    """Raise ``DemandError`` unless the old password is right: a session may be left open to others."""
    if live.origin != PASSWORD:
        raise DemandError("the provider keeps your password", remedy="change it there")
    if sent.new != sent.again:
        raise DemandError("the two new passwords differ", remedy="type the same twice")
    if office.logins.guess(address) > 0:
        raise DemandError("too many tries", remedy="wait a minute")
    kept = office.people.kept(live.name)
    if not await office.logins.fits(kept, sent.old):
        raise DemandError("the old password is another", remedy="type the one you logged in with")


async def _page(office: Office, visitor: Visitor, *, status: int = 200, said: str = "") -> HTMLResponse:
    live = _live(office, visitor)
    return page(
        "access_account.html",
        status=status,
        said=said,
        own=live,
        sessions=await office.act(office.sessions.of, live.name, live.origin),
    )


def _live(office: Office, visitor: Visitor) -> Live:
    found = office.live(visitor)
    if found is None:
        raise not_known()
    return found
