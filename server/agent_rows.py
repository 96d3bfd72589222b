"""Who is enrolled, and who is revoked, as rows of the state: read, written, let in no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from analytics.wire import ServiceOffer
from server.api.audits import AuditRow
from server.database import AGENTS, IDENTITIES, REVOKED, transaction
from server.errors import DemandError
from server.ledger import append


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One enrolled agent."""

    tenant: str
    name: str
    site: str
    label: str
    services: tuple[ServiceOffer, ...]
    fingerprint: str
    token_hash: str
    enrolled_us: int
    seen_us: int
    identity_key: bytes = b""  # Ed25519; empty for one that enrolled when agents had none


def read_agents(engine: sa.Engine) -> list[Agent]:
    """Read all tenants' agents."""
    same = sa.and_(AGENTS.c.tenant == IDENTITIES.c.tenant, AGENTS.c.name == IDENTITIES.c.name)
    key = sa.func.coalesce(IDENTITIES.c.key, b"").label("identity_key")
    wanted = sa.select(AGENTS, key).select_from(AGENTS.outerjoin(IDENTITIES, same))
    with transaction(engine, write=False) as connection:
        return [_agent_from(row) for row in connection.execute(wanted)]


def read_revoked(engine: sa.Engine) -> set[tuple[str, str]]:
    """Read who is let in no more: tenant and name."""
    with transaction(engine, write=False) as connection:
        return {(row.tenant, row.name) for row in connection.execute(sa.select(REVOKED))}


def _agent_from(row: sa.Row[Any]) -> Agent:
    values = dict(row._mapping)
    values["services"] = tuple(msgspec.json.decode(values["services"], type=list[ServiceOffer]))
    return Agent(**values)


def put_agent(connection: sa.Connection, agent: Agent) -> None:
    """Write an agent in the place of what was known under its name."""
    values = {column.name: getattr(agent, column.name) for column in AGENTS.columns}
    values["services"] = msgspec.json.encode(agent.services).decode()
    connection.execute(AGENTS.delete().where(*is_(agent.tenant, agent.name)))
    connection.execute(AGENTS.insert().values(values))
    _put_identity(connection, agent)


def _put_identity(connection: sa.Connection, agent: Agent) -> None:
    same = (IDENTITIES.c.tenant == agent.tenant, IDENTITIES.c.name == agent.name)
    connection.execute(IDENTITIES.delete().where(*same))
    if agent.identity_key:
        connection.execute(
            IDENTITIES.insert().values(tenant=agent.tenant, name=agent.name, key=agent.identity_key)
        )


def is_(
    tenant: str, name: str, table: sa.Table = AGENTS
) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Choose an agent's row of a table."""
    return table.c.tenant == tenant, table.c.name == name


def has_revoked(connection: sa.Connection, tenant: str, name: str) -> bool:
    """Look in the database: a command beside this server may have revoked it just now."""
    wanted = sa.select(REVOKED.c.name).where(*is_(tenant, name, REVOKED))
    return connection.execute(wanted).one_or_none() is not None


def revoke(connection: sa.Connection, tenant: str, name: str, *, by: str, at_us: int) -> None:
    """Let an agent in no more, and note who said so; raises ``DemandError``."""
    if connection.execute(sa.select(AGENTS.c.name).where(*is_(tenant, name))).one_or_none() is None:
        raise DemandError(
            f"no agent of {tenant} is called {name!r}", remedy="pathgrade server agent list --data DIR"
        )
    connection.execute(REVOKED.delete().where(*is_(tenant, name, REVOKED)))
    connection.execute(REVOKED.insert().values(tenant=tenant, name=name, at_us=at_us, by=by))
    append(
        connection,
        tenant,
        [AuditRow(at_us=at_us, actor=by, action="revoke", subject=name, detail="agent")],
    )
