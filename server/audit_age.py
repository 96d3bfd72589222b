"""Letting go of old audit rows, without an index on their time: they are numbered as they were written.

As in the store (``analytics/store/tidy.py``), nothing is let go of by a clock that may have jumped ahead:
rows must have been written on both of the days before. Rows of tests are kept for less long than what people
and agents did: of a hundred agents there are 1.4 million a day.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from analytics.clock import DAY_US
from server.audit_gone import let_go
from server.audit_seal import Sealer
from server.database import AUDIT, transaction
from server.ledger import IS_TEST

AT_ONCE: Final = 2_000
"""Rows of one transaction: others write to the state as well."""
MOST: Final = 500_000
"""Rows of one call, which is one of many: after an upgrade there may be ten millions."""
TRUSTED_DAYS: Final = 2
LEAST_REST_S: Final = 0.001


class Ages(NamedTuple):
    """Days that rows are kept."""

    all: int
    tests: int  # of tests: nearly all rows are, a million and more a day


class _By(NamedTuple):
    """Who lets go of rows, and when."""

    engine: sa.Engine
    writing: AbstractContextManager[Any]
    sealer: Sealer
    now_us: int


class _Old(NamedTuple):
    """Rows that go: numbered below ``upto``, and older than ``before_us`` by their own times."""

    upto: int
    before_us: int
    kind: sa.ColumnElement[bool]


def prune(
    engine: sa.Engine, keep: Ages, *, now_us: int, writing: AbstractContextManager[Any], sealer: Sealer
) -> int:
    """Delete the rows of all tenants that are older than they are kept; returns how many.

    ``writing`` is held for each piece, as whoever writes does, and for no more than half of the time: what
    is left after ``MOST`` goes with the next call. ``sealer`` signs for each chain which rows are gone, so
    that the rest goes on from there. Raises ``StateError`` and ``SealError``.
    """
    with transaction(engine, write=False) as connection:
        if not _is_trusted(connection, now_us):
            return 0
        old = [
            _old(connection, now_us - days * DAY_US, kind)
            for days, kind in ((keep.all, sa.true()), (keep.tests, IS_TEST))
        ]
    gone, by = 0, _By(engine, writing, sealer, now_us)
    for one in old:
        gone += _prune_old(by, one, MOST - gone)
    return gone


def _old(connection: sa.Connection, before_us: int, kind: sa.ColumnElement[bool]) -> _Old:
    return _Old(_first_since(connection, before_us), before_us, kind)


def _prune_old(by: _By, old: _Old, most: int) -> int:
    gone, after = 0, -1
    while gone < most:
        last = _last_of_piece(by.engine, old, after, min(AT_ONCE, most - gone))
        if last is None:
            break
        began_s = time.monotonic()
        with by.writing:
            gone += _delete(by, old, after, last)
        after = last
        time.sleep(max(LEAST_REST_S, time.monotonic() - began_s))  # a lock is not handed on by itself
    return gone


def _last_of_piece(engine: sa.Engine, old: _Old, after: int, most: int) -> int | None:
    """Find the number of the last row of a piece; None: nothing is left. Nobody waits while it looks."""
    with transaction(engine, write=False) as connection:
        piece = (
            sa.select(AUDIT.c.id)
            .where(*_rows(old, after, old.upto))
            .order_by(AUDIT.c.id)
            .limit(most)
            .subquery()
        )
        last: int | None = connection.execute(sa.select(sa.func.max(piece.c.id))).scalar()
    return last


def _delete(by: _By, old: _Old, after: int, last: int) -> int:
    these = _rows(old, after, last + 1)
    wanted = sa.select(AUDIT.c.tenant, AUDIT.c.action, AUDIT.c.seq, AUDIT.c.hash, AUDIT.c.id)
    with transaction(by.engine) as connection:
        rows = connection.execute(wanted.where(*these).order_by(AUDIT.c.id)).all()
        done = connection.execute(AUDIT.delete().where(*these)).rowcount
        let_go(connection, rows, by.sealer, by.now_us)
    return done


def _rows(old: _Old, after: int, upto: int) -> tuple[sa.ColumnElement[bool], ...]:
    """Say which rows go; of those in between whose clock was ahead, none.

    One bound on each side: of two, SQLite would walk as far as the wider one.
    """
    return AUDIT.c.id > after, AUDIT.c.id < upto, AUDIT.c.at_us < old.before_us, old.kind


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
