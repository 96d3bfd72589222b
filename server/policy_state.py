"""Policies in the state's SQLite: the rules of a tenant with one version, which counts up.

A database of before has no such table; it is made when it is opened.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

import msgspec
import sqlalchemy as sa

from analytics.policy import ALL_ALLOWED, Policy, Rule
from server.database import METADATA, transaction
from server.errors import PolicyChangedError

POLICIES: Final = sa.Table(
    "policies",
    METADATA,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("rules", sa.LargeBinary, nullable=False),  # JSON of list[analytics.policy.Rule]
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("since_us", sa.BigInteger, nullable=False),
)


class PolicyState:
    """Any thread may call it; writes block for the disk."""

    def __init__(self, engine: sa.Engine, writing: threading.Lock) -> None:
        self._engine = engine
        self._writing = writing

    def read(self, tenant: str) -> Policy:
        """Read a tenant's policy; one that was never set allows all."""
        with transaction(self._engine, write=False) as connection:
            return _read(connection, tenant)

    def write(self, tenant: str, rules: Sequence[Rule], *, version: int, by: str, at_us: int) -> Policy:
        """Write rules in place of those of ``version``; raises ``PolicyChangedError`` if there are others."""
        with self._writing, transaction(self._engine) as connection:
            known = _read(connection, tenant)
            if known.version != version:
                raise PolicyChangedError(known=known.version)
            made = Policy(version=version + 1, rules=[*rules], by=by, since_us=at_us)
            connection.execute(POLICIES.delete().where(POLICIES.c.tenant == tenant))
            connection.execute(
                POLICIES.insert().values(
                    tenant=tenant,
                    version=made.version,
                    rules=msgspec.json.encode(made.rules),
                    by=by,
                    since_us=at_us,
                )
            )
            return made


def _read(connection: sa.Connection, tenant: str) -> Policy:
    row = connection.execute(sa.select(POLICIES).where(POLICIES.c.tenant == tenant)).one_or_none()
    if row is None:
        return ALL_ALLOWED
    rules = msgspec.json.decode(row.rules, type=list[Rule])
    return Policy(version=row.version, rules=rules, by=row.by, since_us=row.since_us)
