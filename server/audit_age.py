"""Letting go of old audit rows, without an index on their time: they are numbered as they were written.

As in the store (``analytics/store/tidy.py``), nothing is let go of by a clock that may have jumped ahead:
rows must have been written on both of the days before.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final

import sqlalchemy as sa

from analytics.clock import DAY_US
from server.database import AUDIT, transaction

AT_ONCE: Final = 5_000
"""Rows of one transaction: others write to the state as well."""
TRUSTED_DAYS: Final = 2


def prune(engine: sa.Engine, *, keep_days: int, now_us: int, writing: AbstractContextManager[Any]) -> int:
    """Delete the rows of all tenants that are older than they are kept; returns how many.

    ``writing`` is held for each piece, as whoever writes does. Raises ``StateError``.
    """
    with transaction(engine, write=False) as connection:
        if not _is_trusted(connection, now_us):
            return 0
        before_us = now_us - keep_days * DAY_US
        upto = _first_since(connection, before_us)
    gone = 0
    while True:
        with writing:
            some = _prune_some(engine, upto, before_us)
        gone += some
        if some < AT_ONCE:
            return gone


def _prune_some(engine: sa.Engine, upto: int, before_us: int) -> int:
    """Delete a piece; of rows in between whose clock was ahead, none."""
    old = sa.select(AUDIT.c.id).where(AUDIT.c.id < upto, AUDIT.c.at_us < before_us)
    with transaction(engine) as connection:
        chosen = old.order_by(AUDIT.c.id).limit(AT_ONCE)
        return connection.execute(AUDIT.delete().where(AUDIT.c.id.in_(chosen))).rowcount


def _is_trusted(connection: sa.Connection, now_us: int) -> bool:
    """Whether rows were written on both of the days before today, by their own times."""
    today_us = now_us - now_us % DAY_US
    return all(
        _has_any(connection, today_us - back * DAY_US, today_us - (back - 1) * DAY_US)
        for back in range(1, TRUSTED_DAYS + 1)
    )


def _has_any(connection: sa.Connection, since_us: int, until_us: int) -> bool:
    found = _at_or_after(connection, _first_since(connection, since_us))
    return found is not None and since_us <= found.at_us < until_us


def _first_since(connection: sa.Connection, at_us: int) -> int:
    """Find the number from which on rows are of that time, by halving; one past the last if none is."""
    low, high = connection.execute(sa.select(sa.func.min(AUDIT.c.id), sa.func.max(AUDIT.c.id))).one()
    if low is None:
        return 0
    end = high + 1
    while low < end:
        middle = (low + end) // 2
        found = _at_or_after(connection, middle)
        if found is not None and found.at_us < at_us:
            low = found.id + 1
        else:
            end = middle
    return int(low)


def _at_or_after(connection: sa.Connection, number: int) -> sa.Row[Any, Any] | None:
    """The first row from a number on: some were deleted."""
    wanted = sa.select(AUDIT.c.id, AUDIT.c.at_us).where(AUDIT.c.id >= number).order_by(AUDIT.c.id).limit(1)
    return connection.execute(wanted).one_or_none()
