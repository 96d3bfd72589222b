"""The audit rows as people look through them: filtered, in pieces, newest first."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from analytics.audit_chain import TEST_ACTIONS
from server.api.audits import AuditAsk, AuditEntry
from server.database import AUDIT, transaction
from server.ledger import NOT_A_TEST

BY_PEOPLE: Final = sa.Index("audit_but_tests", AUDIT.c.tenant, AUDIT.c.id, sqlite_where=NOT_A_TEST)
"""Of a thousand rows nearly all are of tests; what people did is found without reading those."""


class AuditBook:
    """Reads only; any thread may call it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        with transaction(engine) as connection:
            BY_PEOPLE.create(connection, checkfirst=True)  # a database of before has the table without it
            connection.exec_driver_sql("DROP INDEX IF EXISTS audit_by_people")  # when tests had one row each

    def look(self, tenant: str, ask: AuditAsk) -> list[AuditEntry]:
        """Read what fits, newest first."""
        wanted = sa.select(AUDIT).where(AUDIT.c.tenant == tenant, *_conditions(ask))
        with transaction(self._engine, write=False) as connection:
            rows = connection.execute(wanted.order_by(AUDIT.c.id.desc()).limit(ask.limit))
            return [_entry(row) for row in rows]

    def actions(self, tenant: str) -> list[str]:
        """Name the actions that there are, but tests, by alphabet."""
        wanted = sa.select(AUDIT.c.action).where(AUDIT.c.tenant == tenant, NOT_A_TEST).distinct()
        with transaction(self._engine, write=False) as connection:
            return sorted(connection.execute(wanted).scalars())


def _conditions(ask: AuditAsk) -> list[Any]:
    told: list[Any] = []
    exact = ((AUDIT.c.actor, ask.actor), (AUDIT.c.action, ask.action))
    told += [column == value for column, value in exact if value]
    if ask.subject:
        told.append(AUDIT.c.subject.contains(ask.subject, autoescape=True))
    if ask.since_us is not None:
        told.append(AUDIT.c.at_us >= ask.since_us)
    if ask.until_us is not None:
        told.append(AUDIT.c.at_us <= ask.until_us)
    if ask.before is not None:
        told.append(AUDIT.c.id < ask.before)
    if not ask.tests and ask.action not in TEST_ACTIONS:
        told.append(NOT_A_TEST)
    return told


def _entry(row: sa.Row[Any]) -> AuditEntry:
    return AuditEntry(
        id=row.id, at_us=row.at_us, actor=row.actor, action=row.action, subject=row.subject, detail=row.detail
    )
