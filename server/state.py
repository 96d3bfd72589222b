"""Small mutable state: tenants, enrolment tokens, agents, audit rows. SQLite, beside the measurements.

How an agent is let in is in ``server.admission``, how it is written in ``server.agent_rows``. Tokens are kept
as SHA-256 only: they are 256 random bits, so a fast hash is enough. One server at a time
holds the folder; ``create_token`` and ``revoke_agent`` work beside it.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa

from analytics.channel import EnrolToken
from analytics.clock import now_us
from analytics.trust import AuditMark
from analytics.wire import EnrolRequest, ServiceOffer
from server import admission, agent_rows
from server.agent_rows import Agent
from server.api.audits import AuditRow
from server.audit_age import Ages, prune
from server.audit_book import AuditBook
from server.audit_seal import Breaks, Sealer, sign_chains
from server.authority import Authority
from server.control_state import ControlState
from server.database import (
    AGENTS,
    DEFAULT_TENANT,
    LOCK_NAME,
    MARKS,
    REPLACES,
    REVOKED,
    SERVICES,
    TENANTS,
    TOKENS,
    connect,
    make_folder,
    take_lock,
    transaction,
)
from server.ledger import append
from server.policy_state import PolicyState

FILE_NAME: Final = "state.sqlite"


class State:
    """The state of a running server. Methods block for a disk write at most; any thread may call them."""

    def __init__(self, engine: sa.Engine, lock: int) -> None:
        self._engine = engine
        self._lock = lock
        self._writing = threading.Lock()
        self._breaks: Breaks = {}
        self._agents = {(agent.tenant, agent.name): agent for agent in agent_rows.read_agents(engine)}
        self._revoked = agent_rows.read_revoked(engine)
        self._certified: dict[tuple[str, str], int] = {}  # until when, in us, the latest certificate is good
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
            return cls(connect(data / FILE_NAME, upgrades=True), lock)
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Write when agents were last seen, and let go of the folder."""
        try:
            with transaction(self._engine) as connection:
                for agent in self._agents.values():
                    same = agent_rows.is_(agent.tenant, agent.name)
                    connection.execute(AGENTS.update().where(*same).values(seen_us=agent.seen_us))
        finally:
            self._engine.dispose()
            os.close(self._lock)

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sa.Connection]:
        """One transaction, for parts with tables of their own; raises ``StateError``."""
        with self._writing if write else nullcontext(), transaction(self._engine, write=write) as connection:
            yield connection

    def enrol(self, request: EnrolRequest, *, fingerprint: str, at_us: int, origin: str) -> Agent:
        """Let an agent in; raises ``TokenError`` and ``NameTakenError``.

        ``fingerprint`` is of the DTLS certificate whose key the sender has proven to hold, as it has for the
        identity key. The same agent may come again with the same token without taking a second seat: its
        first answer may have been lost on the way.
        """
        with self._writing:
            with transaction(self._engine) as connection:
                token = admission.find_token(connection, request.token, at_us)
                known = self._agents.get((token.tenant, request.name))
                used = known is not None and known.token_hash == token.hash
                is_replaced = admission.is_replaced(connection, token, request.name)
                if not is_replaced or used:
                    revoked = agent_rows.has_revoked(connection, token.tenant, request.name)
                    admission.check_name(request, fingerprint, known, revoked=revoked)
                if not used:
                    admission.take_seat(connection, token)
                agent = admission.agent_of(request, token, fingerprint, at_us)
                agent_rows.put_agent(connection, agent)
                connection.execute(REVOKED.delete().where(*agent_rows.is_(agent.tenant, agent.name, REVOKED)))
                append(connection, agent.tenant, [admission.enrolment(agent, at_us, origin)])
            self._revoked.discard((agent.tenant, agent.name))
            self._agents[agent.tenant, agent.name] = agent
        return agent

    def agent(self, tenant: str, name: str) -> Agent | None:
        """Find an enrolled agent, also one that was revoked."""
        return self._agents.get((tenant, name))

    def is_enrolled(self, agent: Agent) -> bool:
        """Say whether the name is still that of this key."""
        now = self.agent(agent.tenant, agent.name)
        return now is not None and now.identity_key == agent.identity_key

    def is_revoked(self, tenant: str, name: str) -> bool:
        """Say whether an agent is let in no more."""
        return (tenant, name) in self._revoked

    def revoke(self, tenant: str, name: str, *, by: str, at_us: int) -> None:
        """Let an agent in no more, from now on; raises ``DemandError``."""
        with self._writing:
            with transaction(self._engine) as connection:
                agent_rows.revoke(connection, tenant, name, by=by, at_us=at_us)
            self._revoked.add((tenant, name))

    def see_revoked(self) -> None:
        """Take in what a command beside this server revoked."""
        with self._writing:
            self._revoked = agent_rows.read_revoked(self._engine)

    def certified(self, agent: Agent, *, until_us: int) -> None:
        """Note until when the latest certificate of an agent is good."""
        self._certified[agent.tenant, agent.name] = until_us

    def certified_until_us(self, agent: Agent) -> int:
        """Tell until when the latest certificate made here for an agent is good; 0: none was."""
        return self._certified.get((agent.tenant, agent.name), 0)

    def agents(self, tenant: str) -> list[Agent]:
        """List a tenant's enrolled agents, by name."""
        known = self._agents.copy()
        return [known[key] for key in sorted(known) if key[0] == tenant]

    def saw(self, tenant: str, name: str, at_us: int) -> None:
        """Note that an agent was connected; written to disk on ``close``."""
        self._agents[tenant, name] = replace(self._agents[tenant, name], seen_us=at_us)

    def add_audit(self, tenant: str, rows: Sequence[AuditRow]) -> None:
        """Write audit rows, all or none."""
        with self._writing, transaction(self._engine) as connection:
            append(connection, tenant, rows)

    def prune_audit(self, keep: Ages, *, now_us: int, sealer: Sealer) -> int:
        """Let go of audit rows that are older than they are kept, a piece at a time; returns how many."""
        return prune(self._engine, keep, now_us=now_us, writing=self._writing, sealer=sealer)

    def sign_audit(self, sealer: Sealer, *, now_us: int, only: str | None = None) -> list[AuditMark]:
        """Sign how far the chains of all tenants, or of one, have come; raises ``AuditBrokenError``."""
        return sign_chains(
            self._engine, sealer, now_us=now_us, writing=self._writing, breaks=self._breaks, only=only
        )

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
    token = EnrolToken(secrets.token_urlsafe(32), Authority.open(data).pin)
    try:
        with transaction(engine) as connection:
            admission.check_tenant(connection, tenant)
            connection.execute(
                TOKENS.insert().values(
                    hash=admission.hash_of(token.secret),
                    tenant=tenant,
                    seats=seats,
                    used=0,
                    expires_us=now_us() + expires_s * 1_000_000,
                )
            )
            if replaces:
                only = {"hash": admission.hash_of(token.secret), "name": replaces}
                connection.execute(REPLACES.insert().values(only))
            append(connection, tenant, [admission.token_made(seats, expires_s, replaces)])
    finally:
        engine.dispose()
    return str(token)


def revoke_agent(data: Path, name: str, *, tenant: str = DEFAULT_TENANT, by: str) -> None:
    """Let an agent in no more; works beside a running server, which sees it within seconds.

    Raises ``StateError``, and ``DemandError`` for an agent that is not known.
    """
    engine = connect(data / FILE_NAME)
    try:
        with transaction(engine) as connection:
            agent_rows.revoke(connection, tenant, name, by=by, at_us=now_us())
    finally:
        engine.dispose()


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``pathgrade server agent list``."""

    tenant: str
    name: str
    site: str
    enrolled_us: int
    seen_us: int  # as of the server's last stop
    revoked_us: int | None = None
    revoked_by: str = ""


def enrolled_agents(data: Path) -> list[Enrolled]:
    """List all tenants' agents; works beside a running server. Raises ``StateError``."""
    engine = connect(data / FILE_NAME)
    same = sa.and_(AGENTS.c.tenant == REVOKED.c.tenant, AGENTS.c.name == REVOKED.c.name)
    own = (AGENTS.c.tenant, AGENTS.c.name, AGENTS.c.site, AGENTS.c.enrolled_us, AGENTS.c.seen_us)
    said = (REVOKED.c.at_us.label("revoked_us"), sa.func.coalesce(REVOKED.c.by, "").label("revoked_by"))
    wanted = sa.select(*own, *said).select_from(AGENTS.outerjoin(REVOKED, same))
    try:
        with transaction(engine, write=False) as connection:
            rows = connection.execute(wanted.order_by(AGENTS.c.tenant, AGENTS.c.name))
            return [Enrolled(**row._mapping) for row in rows]
    finally:
        engine.dispose()


def _read_services(engine: sa.Engine) -> dict[str, dict[str, list[ServiceOffer]]]:
    found: dict[str, dict[str, list[ServiceOffer]]] = {}
    ordered = sa.select(SERVICES).order_by(SERVICES.c.agent, SERVICES.c.port)
    with transaction(engine, write=False) as connection:
        for row in connection.execute(ordered):
            offer = ServiceOffer(name=row.name, profile=row.profile, port=row.port)
            found.setdefault(row.tenant, {}).setdefault(row.agent, []).append(offer)
    return found
