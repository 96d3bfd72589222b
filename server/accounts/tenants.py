"""The tenants: rows of their own, and a realm each from the moment that somebody belongs to one."""

from __future__ import annotations

import re

import sqlalchemy as sa

from server.accounts.roles import TENANT_NAME
from server.accounts.rows import audited, changing, reading
from server.api.access import ALL_TENANTS
from server.database import TENANTS
from server.errors import DemandError


class Tenants:
    """The tenants in one state file."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def names(self) -> list[str]:
        """Name them, by name."""
        with reading(self._engine) as connection:
            return list(connection.execute(sa.select(TENANTS.c.name).order_by(TENANTS.c.name)).scalars())

    def add(self, name: str, *, by: str) -> None:
        """Add one; raises ``DemandError``. It is never removed: its measurements bear its name."""
        if not re.match(TENANT_NAME, name):
            raise DemandError(
                f"{name!r} cannot be a tenant's name",
                remedy="lower-case letters, digits and -, as in north-clinic",
            )
        if name in self.names():
            raise DemandError(f"a tenant is called {name!r} already", remedy="choose another name")
        with changing(self._engine) as connection:
            connection.execute(TENANTS.insert().values(name=name))
            audited(connection, home=ALL_TENANTS, by=by, action="tenant", subject=name, detail="made")
