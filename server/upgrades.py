"""From each version of ``state.sqlite`` to the next: one function a step, to be repeated after a crash.

1: agents had a bearer secret, whose hash was in their row. 2: audit rows were in no chain.

A step is told of in ``docs/operations.md``. A database of a newer version is not opened at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from analytics.audit_chain import chain_of
from server.api.audits import AuditRow
from server.database import AGENTS, AUDIT, STATE_VERSION, VERSION, transaction
from server.ledger import Place, place_of, put_place

log: Final = logging.getLogger("pathgrade.server.upgrades")

ADOPTED_AT_ONCE: Final = 20_000


def bring(engine: sa.Engine, version: int) -> None:
    """Bring a database from ``version`` to today's; nobody else has it open. Raises ``StateError``."""
    for step in range(version, STATE_VERSION):
        STEPS[step](engine)
        with transaction(engine) as connection:
            connection.execute(VERSION.update().values(version=step + 1))
        log.warning("%s: state of version %d is one of version %d now", engine.url.database, step, step + 1)


def _forget_secrets(engine: sa.Engine) -> None:
    """Make the agents' table anew without its column of secrets: SQLite does not drop one that is unique."""
    columns = ", ".join(column.name for column in AGENTS.columns)
    with transaction(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE agents RENAME TO agents_1")
        AGENTS.create(connection)
        connection.exec_driver_sql(f"INSERT INTO agents ({columns}) SELECT {columns} FROM agents_1")  # noqa: S608  # our own names
        connection.exec_driver_sql("DROP TABLE agents_1")


def _chain_audit(engine: sa.Engine) -> None:
    """Adopt the audit rows that there are into chains: from now on, nobody changes them unseen."""
    with transaction(engine) as connection:
        known = {column["name"] for column in sa.inspect(connection).get_columns(AUDIT.name)}
        for name, kind in (("seq", "INTEGER"), ("hash", "BLOB")):
            if name not in known:
                connection.exec_driver_sql(f"ALTER TABLE audit ADD COLUMN {name} {kind}")
        last = connection.execute(sa.select(sa.func.max(AUDIT.c.id)).where(AUDIT.c.seq.is_not(None))).scalar()
    after = -1 if last is None else last
    while after is not None:
        with transaction(engine) as connection:
            after = _adopt_some(connection, after)
            log.info("audit rows adopted up to id=%s", after)


def _adopt_some(connection: sa.Connection, after: int) -> int | None:
    """Adopt the next rows, and return the id of the last one; None: there are no more."""
    wanted = sa.select(AUDIT).where(AUDIT.c.id > after).order_by(AUDIT.c.id).limit(ADOPTED_AT_ONCE)
    rows = connection.execute(wanted).all()
    if not rows:
        return None
    _adopt(connection, rows)
    return int(rows[-1].id)


def _adopt(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> None:
    places: dict[tuple[str, str], Place] = {}
    values = []
    for row in rows:
        told = AuditRow(
            at_us=row.at_us, actor=row.actor, action=row.action, subject=row.subject, detail=row.detail
        )
        key = (row.tenant, chain_of(row.action))
        before = places[key] if key in places else place_of(connection, *key)
        place = places[key] = before.next(row.tenant, told)
        values.append({"row": row.id, **place._asdict()})
    connection.execute(AUDIT.update().where(AUDIT.c.id == sa.bindparam("row")), values)
    for (tenant, chain), place in places.items():
        put_place(connection, tenant, chain, place, adopted=place.seq)


STEPS: Final[Mapping[int, Callable[[sa.Engine], None]]] = {1: _forget_secrets, 2: _chain_audit}
