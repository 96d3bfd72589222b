"""Marking in each chain which audit rows were let go of: without a signature they would be missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from analytics.audit_chain import chain_of
from analytics.trust import AuditMark
from server.audit_seal import Reached, Sealer, gone_marks, put_mark
from server.database import AUDIT_MARKS


def let_go(connection: sa.Connection, rows: Iterable[Any], sealer: Sealer, at_us: int) -> None:
    """Sign that these rows are gone, in the transaction that deletes them. Raises ``SealError``."""
    chains: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        if row.seq is not None:  # else somebody wrote it beside the chain: it goes as it came
            chains.setdefault((row.tenant, chain_of(row.action)), []).append(row)
    for (tenant, chain), gone in chains.items():
        for first, last in _runs(gone):
            mark = AuditMark(
                tenant=tenant, chain=chain, seq=last.seq, hash=last.hash, at_us=at_us, gone_from=first.seq
            )
            _keep(connection, Reached(mark, last.id), sealer)


def _runs(rows: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """First and last of the rows that follow one another."""
    first = rows[0]
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        if after is None or after.seq != row.seq + 1:
            yield first, row
            if after is not None:
                first = after


def _keep(connection: sa.Connection, reached: Reached, sealer: Sealer) -> None:
    """Keep a mark, joined with those of the rows before and after it."""
    mark = reached.mark
    for known in gone_marks(connection, mark.tenant, mark.chain, sealer.public_key):
        if known.seq + 1 == mark.gone_from:
            mark = replace(mark, gone_from=known.gone_from)
            _drop(connection, known, gone=True)
        elif known.gone_from == mark.seq + 1:
            mark = replace(mark, seq=known.seq, hash=known.hash)
    _drop(connection, reached.mark, gone=False)
    put_mark(connection, Reached(mark, reached.row_id), sealer)


def _drop(connection: sa.Connection, mark: AuditMark, *, gone: bool) -> None:
    """Forget marks that nobody asks for any more: of rows that are gone."""
    connection.execute(
        AUDIT_MARKS.delete().where(
            AUDIT_MARKS.c.tenant == mark.tenant,
            AUDIT_MARKS.c.chain == mark.chain,
            AUDIT_MARKS.c.gone.is_(gone),
            AUDIT_MARKS.c.seq.between(mark.gone_from, mark.seq),
        )
    )
