"""What people switched, tagged and set, in the state's SQLite: tenant first, kept over restarts.

A database of before has none of these tables; they are made when it is opened.
"""

from __future__ import annotations

import threading
from typing import Final

import sqlalchemy as sa

from server.api.controls import Allowance, Off, OwnBudget, Reach
from server.control import Limits, Subject, Switches
from server.database import METADATA, transaction


def _keyed(name: str, *more: sa.Column[object]) -> sa.Table:
    """Make a table with a row for a subject of a tenant, who wrote it, and when."""
    return sa.Table(
        name,
        METADATA,
        sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("reach", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),  # empty: the fleet
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        *more,
    )


SWITCHED_OFF: Final = _keyed("switched_off")

BUDGETS: Final = _keyed(
    "budgets",
    sa.Column("cpu_bp", sa.Integer, nullable=True),  # null: not set there
    sa.Column("bytes_per_hour", sa.BigInteger, nullable=True),
)

TAGS: Final = sa.Table(
    "tags",
    METADATA,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), primary_key=True),
    sa.Column("agent", sa.Text, primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
)


class ControlState:
    """Reads are of memory, or quick; writes block for the disk. Any thread may call it."""

    def __init__(self, engine: sa.Engine, writing: threading.Lock) -> None:
        self._engine = engine
        self._writing = writing
        self._tags = _read_tags(engine)

    def switches(self, tenant: str) -> Switches:
        """Read what is off."""
        return Switches(
            {
                Subject(Reach(row.reach), row.name): Off(
                    reach=Reach(row.reach), name=row.name, by=row.by, since_us=row.since_us
                )
                for row in self._rows(SWITCHED_OFF, tenant)
            }
        )

    def switch(self, tenant: str, subject: Subject, *, on: bool, by: str, at_us: int) -> None:
        """Write that something is off, or that it is not any more; what is off already stays as it was."""
        known = subject in self.switches(tenant).off
        if known is not on:
            return
        self._put(SWITCHED_OFF, tenant, subject, {} if not on else None, by=by, at_us=at_us)

    def budgets(self, tenant: str) -> list[OwnBudget]:
        """Read the budgets that were set, by reach and name."""
        own = [
            OwnBudget(
                reach=Reach(row.reach),
                name=row.name,
                cpu_bp=row.cpu_bp,
                bytes_per_hour=row.bytes_per_hour,
                by=row.by,
                since_us=row.since_us,
            )
            for row in self._rows(BUDGETS, tenant)
        ]
        return sorted(own, key=lambda one: ([*Reach].index(one.reach), one.name))

    def limits(self, tenant: str) -> Limits:
        """Read the same, to decide by."""
        return Limits(
            {
                Subject(one.reach, one.name): Allowance(cpu_bp=one.cpu_bp, bytes_per_hour=one.bytes_per_hour)
                for one in self.budgets(tenant)
            }
        )

    def budget(self, tenant: str, subject: Subject, own: Allowance, *, by: str, at_us: int) -> None:
        """Write a budget in place of the one before; one that sets nothing is none."""
        values = {"cpu_bp": own.cpu_bp, "bytes_per_hour": own.bytes_per_hour}
        is_set = any(value is not None for value in values.values())
        self._put(BUDGETS, tenant, subject, values if is_set else None, by=by, at_us=at_us)

    def tags(self, tenant: str) -> dict[str, list[str]]:
        """List the tags by agent, each by alphabet."""
        return self._tags.get(tenant, {})

    def tag(self, tenant: str, agent: str, tags: set[str]) -> None:
        """Write an agent's tags in place of those before."""
        with self._writing:
            with transaction(self._engine) as connection:
                connection.execute(TAGS.delete().where(TAGS.c.tenant == tenant, TAGS.c.agent == agent))
                rows = [{"tenant": tenant, "agent": agent, "tag": tag} for tag in sorted(tags)]
                if rows:
                    connection.execute(TAGS.insert(), rows)
            self._tags = _read_tags(self._engine)

    def _rows(self, table: sa.Table, tenant: str) -> list[sa.Row[tuple[object, ...]]]:
        with transaction(self._engine, write=False) as connection:
            return list(connection.execute(sa.select(table).where(table.c.tenant == tenant)))

    def _put(
        self,
        table: sa.Table,
        tenant: str,
        subject: Subject,
        values: dict[str, int | None] | None,
        *,
        by: str,
        at_us: int,
    ) -> None:
        """Write a subject's row in place of the one before; None: it has none any more."""
        key = {"tenant": tenant, "reach": subject.reach.value, "name": subject.name}
        with self._writing, transaction(self._engine) as connection:
            connection.execute(table.delete().where(*(table.c[name] == told for name, told in key.items())))
            if values is not None:
                connection.execute(table.insert().values(**key, by=by, since_us=at_us, **values))


def _read_tags(engine: sa.Engine) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    ordered = sa.select(TAGS).order_by(TAGS.c.agent, TAGS.c.tag)
    with transaction(engine, write=False) as connection:
        for row in connection.execute(ordered):
            found.setdefault(row.tenant, {}).setdefault(row.agent, []).append(row.tag)
    return found
