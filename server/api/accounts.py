"""Accounts, access tokens and tenants over the API, and who one is. Everything but ``me`` is for admins.

An admin of one tenant sees and changes what belongs to it; of all tenants, everything.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Final, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from server.accounts.office import Office
from server.accounts.people import AccountChange, NewAccount
from server.accounts.roles import TenantName
from server.accounts.tokens import NewToken
from server.api.access import ALL_TENANTS, Scope, TheVisitor, Visitor, needs
from server.api.body import body_of, json_of
from server.api.problem import ProblemError
from server.errors import DemandError

T = TypeVar("T")
ADMIN: Final = [needs(Scope.ADMIN)]


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as the server knows them."""

    name: str
    tenant: str  # that is looked at
    home: str  # that they belong to; *: all of them
    scopes: list[str]
    known: bool  # by a credential


class NewTenant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/tenants``."""

    name: TenantName


async def _office(request: Request) -> Office:
    office: Office = request.app.state.office
    return office


TheOffice = Annotated[Office, Depends(_office)]


async def or_refused(doing: Awaitable[T]) -> T:
    """Wait for what was asked for; raises ``ProblemError`` (409) with the reason where it cannot be had."""
    try:
        return await doing
    except DemandError as error:
        raise ProblemError(409, str(error), remedy=error.remedy) from error


def home_of(visitor: Visitor) -> str:
    """Name the tenant that somebody belongs to."""
    return visitor.home or visitor.tenant


def check_everywhere(visitor: Visitor) -> None:
    """Refuse who belongs to one tenant; raises ``ProblemError`` (403)."""
    if not visitor.everywhere:
        raise ProblemError(
            403,
            "Only for admins of all tenants",
            remedy="on the server: pathgrade server tenant add NAME --data DIR",
        )


def router() -> APIRouter:
    """Build the routes under ``/v1``."""
    routes = APIRouter(prefix="/v1", tags=["accounts"])
    _add_me(routes)
    _add_accounts(routes)
    _add_tokens(routes)
    _add_tenants(routes)
    return routes


def _add_me(routes: APIRouter) -> None:
    @routes.get("/me", summary="Who one is, and what one may do", dependencies=[needs(Scope.READ)])
    async def me(visitor: TheVisitor) -> Response:
        return json_of(
            Me(
                name=visitor.name,
                tenant=visitor.tenant,
                home=home_of(visitor),
                scopes=sorted(visitor.scopes),
                known=visitor.known,
            )
        )


def _add_accounts(routes: APIRouter) -> None:
    @routes.get("/accounts", summary="The accounts of people", dependencies=ADMIN)
    async def accounts(office: TheOffice, visitor: TheVisitor) -> Response:
        return json_of(await office.act(office.people.all, home_of(visitor)))

    @routes.post("/accounts", summary="Make an account", dependencies=ADMIN)
    async def add(request: Request, office: TheOffice, visitor: TheVisitor) -> Response:
        new = await body_of(request, NewAccount)
        made = office.act(office.people.add, new, by=visitor.name, within=home_of(visitor))
        return json_of(await or_refused(made), 201)

    @routes.patch(
        "/accounts/{name}", summary="Change a role or a password, disable or enable", dependencies=ADMIN
    )
    async def change(name: str, request: Request, office: TheOffice, visitor: TheVisitor) -> Response:
        wanted = await body_of(request, AccountChange)
        made = office.act(office.people.change, name, wanted, by=visitor.name, within=home_of(visitor))
        return json_of(await or_refused(made))

    @routes.delete("/accounts/{name}", summary="Remove an account", status_code=204, dependencies=ADMIN)
    async def remove(name: str, office: TheOffice, visitor: TheVisitor) -> Response:
        await or_refused(office.act(office.people.remove, name, by=visitor.name, within=home_of(visitor)))
        return Response(status_code=204)


def _add_tokens(routes: APIRouter) -> None:
    @routes.get("/access-tokens", summary="The access tokens of programs", dependencies=ADMIN)
    async def tokens(office: TheOffice, visitor: TheVisitor) -> Response:
        return json_of(await office.act(office.tokens.all, home_of(visitor)))

    @routes.post("/access-tokens", summary="Make a token; it is told once", dependencies=ADMIN)
    async def add(request: Request, office: TheOffice, visitor: TheVisitor) -> Response:
        new = await body_of(request, NewToken)
        made = office.act(office.tokens.add, new, by=visitor.name, within=home_of(visitor))
        return json_of(await or_refused(made), 201)

    @routes.delete("/access-tokens/{name}", summary="Revoke a token", status_code=204, dependencies=ADMIN)
    async def revoke(
        name: str,
        office: TheOffice,
        visitor: TheVisitor,
        everywhere: Annotated[bool, Query(description="one of all tenants")] = False,
    ) -> Response:
        home = ALL_TENANTS if everywhere else visitor.tenant
        await or_refused(
            office.act(office.tokens.revoke, home, name, by=visitor.name, within=home_of(visitor))
        )
        return Response(status_code=204)


def _add_tenants(routes: APIRouter) -> None:
    @routes.get("/tenants", summary="The tenants; of who belongs to one, that one", dependencies=ADMIN)
    async def tenants(office: TheOffice, visitor: TheVisitor) -> Response:
        return json_of(office.known.tenants() if visitor.everywhere else [visitor.tenant])

    @routes.post("/tenants", summary="Add a tenant", dependencies=ADMIN)
    async def add(request: Request, office: TheOffice, visitor: TheVisitor) -> Response:
        check_everywhere(visitor)
        new = await body_of(request, NewTenant)
        await or_refused(office.act(office.tenants.add, new.name, by=visitor.name))
        return json_of(new, 201)
