"""Which authority each agent is known to take, and how many there were, in the state's SQLite.

A database of before has none of these tables; they are made when it is opened.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from server import agent_rows
from server.database import METADATA, transaction

TAKEN: Final = sa.Table(
    "authorities_taken",  # as each agent said, and proved by its key, with its last renewal
    METADATA,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("pin", sa.Text, nullable=False),
)

NUMBERS: Final = sa.Table(
    "authority_numbers",  # of those that were put in another's place; kept when the ones before are dropped
    METADATA,
    sa.Column("pin", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
)


def read_taken(engine: sa.Engine) -> dict[tuple[str, str], str]:
    """Read the pin that each agent said, by tenant and name."""
    with transaction(engine, write=False) as connection:
        return {(row.tenant, row.name): row.pin for row in connection.execute(sa.select(TAKEN))}


def put_taken(connection: sa.Connection, tenant: str, name: str, pin: str) -> None:
    """Write which authority an agent takes; empty: nobody knows."""
    connection.execute(TAKEN.delete().where(*agent_rows.is_(tenant, name, TAKEN)))
    if pin:
        connection.execute(TAKEN.insert().values(tenant=tenant, name=name, pin=pin))


def number_of(connection: sa.Connection, pin: str, *, before: int) -> int:
    """Tell how many authorities there were before one; ``before``: so many of them are still taken.

    One that was put in place when there were no numbers yet has no row.
    """
    wanted = sa.select(NUMBERS.c.number).where(NUMBERS.c.pin == pin)
    found: int | None = connection.execute(wanted).scalar_one_or_none()
    return before if found is None else found


def put_number(connection: sa.Connection, pin: str, number: int) -> None:
    """Write an authority's number."""
    connection.execute(NUMBERS.delete().where(NUMBERS.c.pin == pin))
    connection.execute(NUMBERS.insert().values(pin=pin, number=number))


def next_number(connection: sa.Connection, present: int) -> int:
    """Choose one above the present authority's, and above all that were ever given here."""
    last: int | None = connection.execute(sa.select(sa.func.max(NUMBERS.c.number))).scalar_one()
    return max(present, last or 0) + 1
