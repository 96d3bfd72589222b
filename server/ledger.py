"""The one door through which audit rows are written: each becomes the next of its chain.

In the transaction of what it tells of, or in one of its own. Rows are hashed in one pass and put in as one
statement; where each chain goes on is a row of its own (``AUDIT_CHAINS``), read and written in the same
transaction, so that commands beside the server write into the same chains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from analytics.audit_chain import START, TEST_ACTIONS, TESTS, ChainRow, chain_of, hash_of
from server.api.audits import AuditRow
from server.database import AUDIT, AUDIT_CHAINS

_TESTS: Final = ", ".join(f"'{action}'" for action in sorted(TEST_ACTIONS))
IS_TEST: Final[sa.ColumnElement[bool]] = sa.literal_column(f"action IN ({_TESTS})")
NOT_A_TEST: Final[sa.ColumnElement[bool]] = sa.literal_column(f"action NOT IN ({_TESTS})")
"""Literals, as SQLite asks for, to use the index of rows that are not of tests."""
COLUMNS: Final = (
    AUDIT.c.id,
    AUDIT.c.seq,
    AUDIT.c.at_us,
    AUDIT.c.actor,
    AUDIT.c.action,
    AUDIT.c.subject,
    AUDIT.c.detail,
    AUDIT.c.hash,
)


class Place(NamedTuple):
    """Where a chain goes on: its last row."""

    seq: int
    hash: bytes

    def next(self, tenant: str, row: AuditRow) -> Place:
        """Number and hash of the row that comes next."""
        seq = self.seq + 1
        told = (tenant, chain_of(row.action), row.actor, row.action, row.subject, row.detail)
        return Place(seq, hash_of(self.hash, seq, row.at_us, *told))


FIRST: Final = Place(0, START)


def append(connection: sa.Connection, tenant: str, rows: Sequence[AuditRow]) -> None:
    """Write rows, in a transaction that writes."""
    if not rows:
        return
    places = {chain: place_of(connection, tenant, chain) for chain in {chain_of(row.action) for row in rows}}
    values = []
    for row in rows:
        chain = chain_of(row.action)
        place = places[chain] = places[chain].next(tenant, row)
        values.append({"tenant": tenant, **msgspec.structs.asdict(row), **place._asdict()})
    connection.execute(AUDIT.insert(), values)
    for chain, place in places.items():
        put_place(connection, tenant, chain, place)


def place_of(connection: sa.Connection, tenant: str, chain: str) -> Place:
    """Read where a chain goes on."""
    wanted = sa.select(AUDIT_CHAINS.c.seq, AUDIT_CHAINS.c.hash).where(*_is(tenant, chain))
    found = connection.execute(wanted).one_or_none()
    return Place(*found) if found is not None else FIRST


def put_place(
    connection: sa.Connection, tenant: str, chain: str, place: Place, adopted: int | None = None
) -> None:
    """Keep where a chain goes on, and, where it is given, up to which row it was adopted."""
    values: dict[str, Any] = place._asdict() | ({} if adopted is None else {"adopted": adopted})
    done = connection.execute(AUDIT_CHAINS.update().where(*_is(tenant, chain)).values(values))
    if done.rowcount == 0:
        first = {"tenant": tenant, "chain": chain, "adopted": 0}
        connection.execute(AUDIT_CHAINS.insert().values(first | values))


def rows_of(
    connection: sa.Connection, tenant: str, chain: str, *, after_id: int = -1, at_once: int = 5_000
) -> Iterator[tuple[int, ChainRow]]:
    """Give a chain's rows as they were written, each with its id; a row that is in no chain has number 0."""
    of_chain = IS_TEST if chain == TESTS else NOT_A_TEST
    wanted = sa.select(*COLUMNS).where(AUDIT.c.tenant == tenant, of_chain).order_by(AUDIT.c.id).limit(at_once)
    while True:
        found = connection.execute(wanted.where(AUDIT.c.id > after_id)).all()
        for row in found:
            yield row.id, _chain_row(row)
        if len(found) < at_once:
            return
        after_id = found[-1].id


def _chain_row(row: Any) -> ChainRow:
    return ChainRow(
        seq=row.seq or 0,
        at_us=row.at_us,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        detail=row.detail,
        hash=row.hash or b"",
    )


def _is(tenant: str, chain: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return AUDIT_CHAINS.c.tenant == tenant, AUDIT_CHAINS.c.chain == chain
