"""``/settings/access``: accounts, access tokens and tenants, for admins."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from server.accounts.office import Office
from server.accounts.people import AccountChange, NewAccount
from server.accounts.roles import Role, TokenScope
from server.accounts.tokens import NewToken
from server.api.access import ALL_TENANTS, Scope, TheVisitor, Visitor, needs
from server.api.accounts import NewTenant, TheOffice, check_everywhere, home_of
from server.api.body import form_of, see_other
from server.errors import DemandError
from server.pages.render import page

PATH: Final = "/settings/access"
ADMIN: Final = [needs(Scope.ADMIN)]


class TokenForm(msgspec.Struct, kw_only=True):
    """A token to make; no days: until it is revoked."""

    name: str
    scope: TokenScope
    tenant: str
    days: str = ""


class RevokeForm(msgspec.Struct, kw_only=True):
    """A token to revoke."""

    name: str
    tenant: str


class ChangeForm(msgspec.Struct, kw_only=True):
    """An account to change: one thing of it."""

    name: str
    role: Role | None = None
    disabled: bool | None = None
    password: Annotated[str, msgspec.Meta(max_length=2_000)] | None = None
    remove: bool = False


def router() -> APIRouter:
    """Build the routes; they are not part of the API, which has the same for programs."""
    routes = APIRouter(include_in_schema=False)
    _add_page(routes)
    _add_accounts(routes)
    _add_tokens(routes)
    _add_tenants(routes)
    return routes


def _add_page(routes: APIRouter) -> None:
    @routes.get(PATH, dependencies=ADMIN)
    async def access(office: TheOffice, visitor: TheVisitor) -> HTMLResponse:
        return await _page(office, visitor)


def _add_accounts(routes: APIRouter) -> None:
    @routes.post(f"{PATH}/accounts", dependencies=ADMIN)
    async def add(request: Request, office: TheOffice, visitor: TheVisitor) -> Response:
        new = await form_of(request, NewAccount)
        doing = office.act(office.people.add, new, by=visitor.name, within=home_of(visitor))
        return await _seen(office, visitor, doing)

    @routes.post(f"{PATH}/account", dependencies=ADMIN)
    async def change(request: Request, office: TheOffice, visitor: TheVisitor) -> Response:
        sent = await form_of(request, ChangeForm)
        who = {"by": visitor.name, "within": home_of(visitor)}
        if sent.remove:
            return await _seen(office, visitor, office.act(office.people.remove, sent.name, **who))
        wanted = AccountChange(role=sent.role, disabled=sent.disabled, password=sent.password or None)
        return await _seen(office, visitor, office.act(office.people.change, sent.name, wanted, **who))


def _add_tokens(routes: APIRouter) -> None:
    @routes.post(f"{PATH}/tokens", dependencies=ADMIN)
    async def add(request: Request, office: TheOffice, visitor: TheVisitor) -> Response:
        sent = await form_of(request, TokenForm)
        try:
            given = {**msgspec.structs.asdict(sent), "days": sent.days or None}
            new = msgspec.convert(given, NewToken, strict=False)
            made = await office.act(office.tokens.add, new, by=visitor.name, within=home_of(visitor))
        except (DemandError, msgspec.ValidationError) as error:
            return await _page(office, visitor, status=409, said=str(error))
        # Not by way of another page: the secret is told once, and would stand in an address.
        return await _page(office, visitor, made=made)

    @routes.post(f"{PATH}/token", dependencies=ADMIN)
    async def revoke(request: Request, office: TheOffice, visitor: TheVisitor) -> Response:
        sent = await form_of(request, RevokeForm)
        return await _seen(
            office,
            visitor,
            office.act(
                office.tokens.revoke, sent.tenant, sent.name, by=visitor.name, within=home_of(visitor)
            ),
        )


def _add_tenants(routes: APIRouter) -> None:
    @routes.post(f"{PATH}/tenants", dependencies=ADMIN)
    async def add(request: Request, office: TheOffice, visitor: TheVisitor) -> Response:
        check_everywhere(visitor)
        sent = await form_of(request, NewTenant)
        return await _seen(office, visitor, office.act(office.tenants.add, sent.name, by=visitor.name))


async def _seen(office: Office, visitor: Visitor, doing: Awaitable[Any]) -> Response:
    """Show the page as it is then, or why it is not otherwise."""
    try:
        await doing
    except DemandError as error:
        return await _page(office, visitor, status=409, said=f"{error}: {error.remedy}.")
    return see_other(PATH)


async def _page(
    office: Office, visitor: Visitor, *, status: int = 200, said: str = "", made: Any = None
) -> HTMLResponse:
    home = home_of(visitor)
    return page(
        "access_settings.html",
        status=status,
        said=said,
        made=made,
        accounts=await office.act(office.people.all, home),
        tokens=await office.act(office.tokens.all, home),
        homes=[*office.known.tenants(), ALL_TENANTS] if visitor.everywhere else [visitor.tenant],
        all_tenants=ALL_TENANTS,
        roles=list(Role),
        scopes=list(TokenScope),
    )
