"""Letting an agent in, step by step: its token, its name, its seat. Each is part of one transaction."""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa

from analytics.clock import now_us
from analytics.wire import EnrolRequest
from server.agent_rows import Agent
from server.api.audits import COMMAND, AuditRow
from server.database import REPLACES, TENANTS, TOKENS
from server.errors import DemandError, NameTakenError, TokenError


def check_tenant(connection: sa.Connection, tenant: str) -> None:
    """Raise ``DemandError`` unless there is such a tenant."""
    if connection.execute(sa.select(TENANTS.c.name).where(TENANTS.c.name == tenant)).one_or_none() is None:
        raise DemandError(
            f"no tenant is called {tenant!r}", remedy="add it: pathgrade server tenant add NAME --data DIR"
        )


def find_token(connection: sa.Connection, token: str, at_us: int) -> sa.Row[Any]:
    """Find a token that holds; raises ``TokenError``."""
    row = connection.execute(sa.select(TOKENS).where(TOKENS.c.hash == hash_of(token))).one_or_none()
    if row is None:
        raise TokenError("unknown token", remedy="make one on the server: pathgrade server token --data DIR")
    if row.expires_us <= at_us:
        raise TokenError("the token has expired", remedy="make a new one: pathgrade server token --data DIR")
    return row


def check_name(request: EnrolRequest, fingerprint: str, known: Agent | None, *, revoked: bool) -> None:
    """Raise ``NameTakenError`` unless the name is free, or the sender's already."""
    if known is None:
        return
    if revoked:
        raise NameTakenError(
            f"agent {request.name!r} was revoked",
            remedy=f"if it is to come back: pathgrade server token --data DIR --replaces {request.name}",
        )
    if known.identity_key:
        same = known.identity_key == request.identity_key
    else:
        same = known.fingerprint == fingerprint
    if not same:
        raise NameTakenError(
            f"the name {request.name!r} belongs to another agent",
            remedy="choose another name, or restore that agent's identity.pem to its data folder\n"
            f"if that agent was reinstalled: pathgrade server token --data DIR --replaces {request.name}",
        )


def is_replaced(connection: sa.Connection, token: sa.Row[Any], name: str) -> bool:
    """Tell whether the token is for new keys of that agent; raises ``TokenError`` if for another's."""
    wanted = sa.select(REPLACES.c.name).where(REPLACES.c.hash == token.hash)
    replaced = connection.execute(wanted).scalar_one_or_none()
    if replaced not in (None, name):
        raise TokenError(
            f"the token is for {replaced!r} only", remedy="make another: pathgrade server token --data DIR"
        )
    return replaced is not None


def take_seat(connection: sa.Connection, token: sa.Row[Any]) -> None:
    """Count one more agent that a token let in; raises ``TokenError`` where it has no more seats."""
    if token.used >= token.seats:
        raise TokenError(
            f"all {token.seats} seats of the token are taken",
            remedy="make a new one: pathgrade server token --data DIR --seats N",
        )
    connection.execute(TOKENS.update().where(TOKENS.c.hash == token.hash).values(used=token.used + 1))


def agent_of(request: EnrolRequest, token: sa.Row[Any], fingerprint: str, at_us: int) -> Agent:
    """Say who enrols, in the token's tenant."""
    return Agent(
        tenant=token.tenant,
        name=request.name,
        site=request.site,
        label=request.label,
        services=tuple(request.services),
        fingerprint=fingerprint,
        token_hash=token.hash,
        enrolled_us=at_us,
        seen_us=at_us,
        identity_key=request.identity_key,
    )


def token_made(seats: int, expires_s: int, replaces: str) -> AuditRow:
    """Note that a token was made; not which."""
    detail = f"made seats={seats} expires_s={expires_s}" + (f" replaces={replaces}" if replaces else "")
    return AuditRow(at_us=now_us(), actor=COMMAND, action="token", subject=replaces, detail=detail)


def enrolment(agent: Agent, at_us: int, origin: str) -> AuditRow:
    """Note that an agent was let in."""
    return AuditRow(
        at_us=at_us,
        actor=agent.name,
        action="enrol",
        subject=agent.name,
        detail=f"site={agent.site} from={origin}",
    )


def hash_of(secret: str) -> str:
    """Name a token's secret as it is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()
