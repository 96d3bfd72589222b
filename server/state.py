"""Small mutable state: tenants, enrolment tokens, agents, audit rows. SQLite, beside the measurements.

Secrets and tokens are kept as SHA-256 only: both are 256 random bits, so a fast hash is enough. One server at
a time holds the folder; ``create_token`` works beside it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from analytics.clock import now_us
from analytics.wire import EnrolReply, EnrolRequest, ServiceOffer
from server.api.audits import AuditRow
from server.audit_age import Ages, prune
from server.audit_book import AuditBook
from server.control_state import ControlState
from server.database import (
    AGENTS,
    AUDIT,
    DEFAULT_TENANT,
    IDENTITIES,
    MARKS,
    REPLACES,
    SERVICES,
    TENANTS,
    TOKENS,
    connect,
    make_folder,
    take_lock,
    transaction,
)
from server.errors import CredentialError, DemandError, NameTakenError, TokenError
from server.policy_state import PolicyState

FILE_NAME: Final = "state.sqlite"
LOCK_NAME: Final = "server.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One enrolled agent."""

    tenant: str
    name: str
    site: str
    label: str
    services: tuple[ServiceOffer, ...]
    fingerprint: str
    secret_hash: str
    token_hash: str
    enrolled_us: int
    seen_us: int
    identity_key: bytes = b""  # Ed25519; empty for one that enrolled when agents had none


class State:
    """The state of a running server. Methods block for a disk write at most; any thread may call them."""

    def __init__(self, engine: sa.Engine, lock: int) -> None:
        self._engine = engine
        self._lock = lock
        self._writing = threading.Lock()
        self._agents = {(agent.tenant, agent.name): agent for agent in _read_agents(engine)}
        self._by_secret = {agent.secret_hash: agent for agent in self._agents.values()}
        self._services = _read_services(engine)
        self.controls = ControlState(engine, self._writing)
        self.policies = PolicyState(engine, self._writing)
        self.audits = AuditBook(engine)

    def tenants(self) -> list[str]:
        """Name the tenants, by name."""
        with transaction(self._engine, write=False) as connection:
            return list(connection.execute(sa.select(TENANTS.c.name).order_by(TENANTS.c.name)).scalars())

    @classmethod
    def open(cls, data: Path) -> State:
        """Take the folder and read the state in it; raises ``StateError``."""
        make_folder(data)
        lock = take_lock(data / LOCK_NAME)
        try:
            return cls(connect(data / FILE_NAME), lock)
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Write when agents were last seen, and let go of the folder."""
        try:
            with transaction(self._engine) as connection:
                for agent in self._agents.values():
                    connection.execute(
                        AGENTS.update().where(*_is(agent.tenant, agent.name)).values(seen_us=agent.seen_us)
                    )
        finally:
            self._engine.dispose()
            os.close(self._lock)

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sa.Connection]:
        """One transaction, for parts with tables of their own; raises ``StateError``."""
        with self._writing if write else nullcontext(), transaction(self._engine, write=write) as connection:
            yield connection

    def enrol(self, request: EnrolRequest, *, fingerprint: str, at_us: int, origin: str) -> EnrolReply:
        """Let an agent in and give it a secret; raises ``TokenError`` and ``NameTakenError``.

        ``fingerprint`` is of the certificate whose key the sender has proven to hold, as it has for the
        identity key where there is one: a known name is given a new secret for either.
        The same agent may come again with the same token without taking a second seat: its first answer may
        have been lost on the way.
        """
        secret = secrets.token_urlsafe(32)
        with self._writing:
            with transaction(self._engine) as connection:
                token = _find_token(connection, request.token, at_us)
                known = self._agents.get((token.tenant, request.name))
                used = known is not None and known.token_hash == token.hash
                if not _is_replaced(connection, token, request.name) or used:
                    _check_name(request, fingerprint, known)
                if not used:
                    _take_seat(connection, token)
                agent = _agent_of(request, token, fingerprint, secret, at_us)
                if known is not None and known.fingerprint == fingerprint and not agent.identity_key:
                    agent = replace(agent, identity_key=known.identity_key)
                _put_agent(connection, agent)
                _put_audit(connection, agent.tenant, [_enrolment(agent, at_us, origin)])
            self._remember(agent, known)
        return EnrolReply(agent=agent.name, tenant=agent.tenant, secret=secret)

    def agent_of_secret(self, secret: str) -> Agent:
        """Say whose secret this is; raises ``CredentialError``."""
        agent = self._by_secret.get(_hash(secret))
        if agent is None:
            raise CredentialError(
                "unknown credential",
                remedy="enrol again: give the agent a new token (pathgrade server token)",
            )
        return agent

    def agents(self, tenant: str) -> list[Agent]:
        """List a tenant's enrolled agents, by name."""
        known = self._agents.copy()
        return [known[key] for key in sorted(known) if key[0] == tenant]

    def saw(self, tenant: str, name: str, at_us: int) -> None:
        """Note that an agent was connected; written to disk on ``close``."""
        known = self._agents[tenant, name]
        self._remember(replace(known, seen_us=at_us), known)

    def identify(self, tenant: str, name: str, key: bytes) -> None:
        """Keep the identity key of an agent that enrolled when agents had none."""
        with self._writing:
            known = self._agents[tenant, name]
            agent = replace(known, identity_key=key)
            with transaction(self._engine) as connection:
                _put_identity(connection, agent)
            self._remember(agent, known)

    def add_audit(self, tenant: str, rows: Sequence[AuditRow]) -> None:
        """Write audit rows, all or none."""
        with self._writing, transaction(self._engine) as connection:
            _put_audit(connection, tenant, rows)

    def prune_audit(self, keep: Ages, *, now_us: int) -> int:
        """Let go of audit rows that are older than they are kept, a piece at a time; returns how many."""
        return prune(self._engine, keep, now_us=now_us, writing=self._writing)

    def marks(self, tenant: str) -> list[tuple[str, str]]:
        """List the agents, or pairs of them, that are marked as important; a lone one has an empty peer."""
        wanted = sa.select(MARKS.c.agent, MARKS.c.peer).order_by(MARKS.c.agent, MARKS.c.peer)
        with transaction(self._engine, write=False) as connection:
            return [
                (row.agent, row.peer) for row in connection.execute(wanted.where(MARKS.c.tenant == tenant))
            ]

    def mark(self, tenant: str, agent: str, peer: str, *, important: bool) -> None:
        """Mark or unmark an agent (``peer`` empty) or a pair."""
        row = {"tenant": tenant, "agent": agent, "peer": peer}
        same = (MARKS.c[name] == value for name, value in row.items())
        with self._writing, transaction(self._engine) as connection:
            connection.execute(MARKS.delete().where(*same))
            if important:
                connection.execute(MARKS.insert().values(row))

    def services(self, tenant: str) -> dict[str, list[ServiceOffer]]:
        """List the services that people tagged, by agent; those that agents offer are with the agents."""
        return self._services.get(tenant, {})

    def tag(self, tenant: str, agent: str, port: int, offer: ServiceOffer | None) -> None:
        """Tag a port of an agent's host as a service, in place of what it was tagged as; None: as none."""
        same = (SERVICES.c.tenant == tenant, SERVICES.c.agent == agent, SERVICES.c.port == port)
        with self._writing, transaction(self._engine) as connection:
            connection.execute(SERVICES.delete().where(*same))
            if offer is not None:
                row = {"tenant": tenant, "agent": agent, **msgspec.structs.asdict(offer)}
                connection.execute(SERVICES.insert().values(row))
        self._services = _read_services(self._engine)

    def _remember(self, agent: Agent, before: Agent | None) -> None:
        if before is not None:
            self._by_secret.pop(before.secret_hash, None)
        self._agents[agent.tenant, agent.name] = agent
        self._by_secret[agent.secret_hash] = agent


def create_token(
    data: Path, seats: int, expires_s: int, *, replaces: str = "", tenant: str = DEFAULT_TENANT
) -> str:
    """Make a token that lets ``seats`` agents in within ``expires_s``; works beside a running server.

    With ``replaces``, it lets in that agent only, with new keys in place of those it enrolled with. Raises
    ``StateError``, and ``DemandError`` for a tenant that is not known. The token is told once: only its hash
    is kept.
    """
    make_folder(data)
    engine = connect(data / FILE_NAME)
    token = f"pg-{secrets.token_urlsafe(32)}"
    try:
        with transaction(engine) as connection:
            _check_tenant(connection, tenant)
            connection.execute(
                TOKENS.insert().values(
                    hash=_hash(token),
                    tenant=tenant,
                    seats=seats,
                    used=0,
                    expires_us=now_us() + expires_s * 1_000_000,
                )
            )
            if replaces:
                connection.execute(REPLACES.insert().values(hash=_hash(token), name=replaces))
    finally:
        engine.dispose()
    return token


def _check_tenant(connection: sa.Connection, tenant: str) -> None:
    if connection.execute(sa.select(TENANTS.c.name).where(TENANTS.c.name == tenant)).one_or_none() is None:
        raise DemandError(
            f"no tenant is called {tenant!r}", remedy="add it: pathgrade server tenant add NAME --data DIR"
        )


# --- enrolment, step by step ----------------------------------------------------------------------------


def _find_token(connection: sa.Connection, token: str, at_us: int) -> sa.Row[Any]:
    row = connection.execute(sa.select(TOKENS).where(TOKENS.c.hash == _hash(token))).one_or_none()
    if row is None:
        raise TokenError("unknown token", remedy="make one on the server: pathgrade server token --data DIR")
    if row.expires_us <= at_us:
        raise TokenError("the token has expired", remedy="make a new one: pathgrade server token --data DIR")
    return row


def _check_name(request: EnrolRequest, fingerprint: str, known: Agent | None) -> None:
    if known is None:
        return
    same_key = bool(known.identity_key) and known.identity_key == request.identity_key
    other_key = bool(known.identity_key and request.identity_key) and not same_key
    if other_key or (known.fingerprint != fingerprint and not same_key):
        raise NameTakenError(
            f"the name {request.name!r} belongs to another agent",
            remedy="choose another name, or restore that agent's identity.pem to its data folder\n"
            f"if that agent was reinstalled: pathgrade server token --data DIR --replaces {request.name}",
        )


def _is_replaced(connection: sa.Connection, token: sa.Row[Any], name: str) -> bool:
    """Tell whether the token is for new keys of that agent; raises ``TokenError`` if for another's."""
    wanted = sa.select(REPLACES.c.name).where(REPLACES.c.hash == token.hash)
    replaced = connection.execute(wanted).scalar_one_or_none()
    if replaced not in (None, name):
        raise TokenError(
            f"the token is for {replaced!r} only", remedy="make another: pathgrade server token --data DIR"
        )
    return replaced is not None


def _take_seat(connection: sa.Connection, token: sa.Row[Any]) -> None:
    if token.used >= token.seats:
        raise TokenError(
            f"all {token.seats} seats of the token are taken",
            remedy="make a new one: pathgrade server token --data DIR --seats N",
        )
    connection.execute(TOKENS.update().where(TOKENS.c.hash == token.hash).values(used=token.used + 1))


def _agent_of(request: EnrolRequest, token: sa.Row[Any], fingerprint: str, secret: str, at_us: int) -> Agent:
    return Agent(
        tenant=token.tenant,
        name=request.name,
        site=request.site,
        label=request.label,
        services=tuple(request.services),
        fingerprint=fingerprint,
        secret_hash=_hash(secret),
        token_hash=token.hash,
        enrolled_us=at_us,
        seen_us=at_us,
        identity_key=request.identity_key,
    )


def _enrolment(agent: Agent, at_us: int, origin: str) -> AuditRow:
    return AuditRow(
        at_us=at_us,
        actor=agent.name,
        action="enrol",
        subject=agent.name,
        detail=f"site={agent.site} from={origin}",
    )


# --- rows -----------------------------------------------------------------------------------------------


def _read_agents(engine: sa.Engine) -> list[Agent]:
    same = sa.and_(AGENTS.c.tenant == IDENTITIES.c.tenant, AGENTS.c.name == IDENTITIES.c.name)
    key = sa.func.coalesce(IDENTITIES.c.key, b"").label("identity_key")
    wanted = sa.select(AGENTS, key).select_from(AGENTS.outerjoin(IDENTITIES, same))
    with transaction(engine, write=False) as connection:
        return [_agent_from(row) for row in connection.execute(wanted)]


def _read_services(engine: sa.Engine) -> dict[str, dict[str, list[ServiceOffer]]]:
    found: dict[str, dict[str, list[ServiceOffer]]] = {}
    ordered = sa.select(SERVICES).order_by(SERVICES.c.agent, SERVICES.c.port)
    with transaction(engine, write=False) as connection:
        for row in connection.execute(ordered):
            offer = ServiceOffer(name=row.name, profile=row.profile, port=row.port)
            found.setdefault(row.tenant, {}).setdefault(row.agent, []).append(offer)
    return found


def _agent_from(row: sa.Row[Any]) -> Agent:
    values = dict(row._mapping)
    values["services"] = tuple(msgspec.json.decode(values["services"], type=list[ServiceOffer]))
    return Agent(**values)


def _put_agent(connection: sa.Connection, agent: Agent) -> None:
    values = {column.name: getattr(agent, column.name) for column in AGENTS.columns}
    values["services"] = msgspec.json.encode(agent.services).decode()
    connection.execute(AGENTS.delete().where(*_is(agent.tenant, agent.name)))
    connection.execute(AGENTS.insert().values(values))
    _put_identity(connection, agent)


def _put_identity(connection: sa.Connection, agent: Agent) -> None:
    same = (IDENTITIES.c.tenant == agent.tenant, IDENTITIES.c.name == agent.name)
    connection.execute(IDENTITIES.delete().where(*same))
    if agent.identity_key:
        connection.execute(
            IDENTITIES.insert().values(tenant=agent.tenant, name=agent.name, key=agent.identity_key)
        )


def _put_audit(connection: sa.Connection, tenant: str, rows: Sequence[AuditRow]) -> None:
    if rows:
        connection.execute(
            AUDIT.insert(), [{"tenant": tenant, **msgspec.structs.asdict(row)} for row in rows]
        )


def _is(tenant: str, name: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return AGENTS.c.tenant == tenant, AGENTS.c.name == name


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
