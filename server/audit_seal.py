"""Signing the chains of audit rows, and checking them where they lie.

Before the server signs how far a chain has come, it walks the rows that came since it last did: what was
written over meanwhile does not get a signature. Of each day the last signature is kept, so that whoever
changes a row of long ago finds many that do not fit any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import sqlalchemy as sa

from analytics.audit_chain import ACTS, TESTS, Broken, Chain, ChainResult, Fault
from analytics.clock import DAY_US
from analytics.trust import AuditMark, unseal
from server.database import AUDIT_CHAINS, AUDIT_MARKS, transaction
from server.errors import AuditBrokenError
from server.ledger import place_of, rows_of

CHAINS: Final = (ACTS, TESTS)


class Sealer(Protocol):
    """Signs marks by the server's key; ``server.grants.Signer`` does."""

    public_key: bytes

    def audit_mark(self, mark: AuditMark) -> bytes:
        """Sign how far a chain has come, or what of it is gone."""


class Reached(NamedTuple):
    """How far a chain has come, and the id of that row in the table."""

    mark: AuditMark
    row_id: int


class Break(NamedTuple):
    """That a chain does not hold, in words, and from which signed row on (0: from the first)."""

    head_seq: int
    why: str


Breaks = dict[tuple[str, str], Break]
"""By tenant and chain, what was found once: a chain that is broken is not walked again each minute, as ever
more rows come behind its last signature. Somebody who mends it starts the server again."""


def sign_chains(
    engine: sa.Engine,
    sealer: Sealer,
    *,
    now_us: int,
    writing: AbstractContextManager[Any],
    breaks: Breaks,
    only: str | None = None,
) -> list[AuditMark]:
    """Sign each chain, or each of the tenant ``only``, that has come further; returns what was signed.

    Raises ``AuditBrokenError`` if what came since the last signature does not go on from it; the other chains
    are signed all the same. Raises ``StateError`` and ``SealError``.
    """
    signed, broken = [], []
    wanted = sa.select(AUDIT_CHAINS.c.tenant, AUDIT_CHAINS.c.chain)
    if only is not None:
        wanted = wanted.where(AUDIT_CHAINS.c.tenant == only)
    with transaction(engine, write=False) as connection:
        places = connection.execute(wanted).all()
    for tenant, chain in places:
        try:
            with transaction(engine, write=False) as connection:
                reached = _walked(connection, tenant, chain, sealer.public_key, now_us=now_us, breaks=breaks)
        except AuditBrokenError as error:
            broken.append(error)
            continue
        if reached is not None:
            with writing, transaction(engine) as connection:
                put_mark(connection, reached, sealer)
            signed.append(reached.mark)
    if broken:
        raise broken[0]
    return signed


def put_mark(connection: sa.Connection, reached: Reached, sealer: Sealer) -> None:
    """Sign a mark and keep it; how far a chain has come, in the place of what was signed earlier that day."""
    mark = reached.mark
    gone = bool(mark.gone_from)
    today_us = mark.at_us - mark.at_us % DAY_US
    replaced = AUDIT_MARKS.c.seq == mark.seq
    if not gone:
        replaced = sa.or_(replaced, AUDIT_MARKS.c.at_us.between(today_us, mark.at_us))
    same = (*_of(mark.tenant, mark.chain), AUDIT_MARKS.c.gone.is_(gone))
    connection.execute(AUDIT_MARKS.delete().where(*same, replaced))
    values = {"tenant": mark.tenant, "chain": mark.chain, "seq": mark.seq, "gone": gone, "at_us": mark.at_us}
    sealed = sealer.audit_mark(mark)
    connection.execute(AUDIT_MARKS.insert().values(**values, row_id=reached.row_id, sealed=sealed))


def marks_of(connection: sa.Connection, tenant: str) -> list[bytes]:
    """Give a tenant's marks, as signed, by chain and number."""
    order = (AUDIT_MARKS.c.chain, AUDIT_MARKS.c.seq, AUDIT_MARKS.c.gone)
    wanted = sa.select(AUDIT_MARKS.c.sealed).where(AUDIT_MARKS.c.tenant == tenant).order_by(*order)
    return list(connection.execute(wanted).scalars())


def read_mark(sealed: bytes, key: bytes) -> AuditMark:
    """Check the signature of a mark. Raises ``SealError``."""
    return AuditMark.decode(unseal(sealed, key))


def tenants_of(engine: sa.Engine) -> list[str]:
    """Name the tenants that have a chain."""
    wanted = sa.select(AUDIT_CHAINS.c.tenant).distinct().order_by(AUDIT_CHAINS.c.tenant)
    with transaction(engine, write=False) as connection:
        return list(connection.execute(wanted).scalars())


def check(
    engine: sa.Engine, tenant: str, key: bytes, noted: Mapping[str, Mapping[int, bytes]] | None = None
) -> list[ChainResult]:
    """Check both chains of a tenant where they lie. Raises ``SealError`` and ``StateError``."""
    with transaction(engine, write=False) as connection:
        marks = [read_mark(sealed, key) for sealed in marks_of(connection, tenant)]
        return [
            _checked(connection, Chain(tenant, name, marks, (noted or {}).get(name, {}))) for name in CHAINS
        ]


def _checked(connection: sa.Connection, chain: Chain) -> ChainResult:
    for _, row in rows_of(connection, chain.tenant, chain.name):
        chain.take(row)
    signed = any((mark.tenant, mark.chain) == (chain.tenant, chain.name) for mark in chain.marks)
    found = chain.end(whole=not signed)
    place = place_of(connection, chain.tenant, chain.name)
    if found.broken is None and found.last is not None and found.last != place.seq:
        why = f"the last row written was {place.seq}"
        cut = Broken(seq=found.last + 1, fault=Fault.CUT, why=why)
        return msgspec.structs.replace(found, broken=cut)
    return found


def _walked(
    connection: sa.Connection, tenant: str, chain: str, key: bytes, *, now_us: int, breaks: Breaks
) -> Reached | None:
    """Walk a chain from where it was signed last to its end; None: it has come no further."""
    row = connection.execute(sa.select(AUDIT_CHAINS).where(*_chain(tenant, chain))).one()
    last, row_id = _last_head(connection, tenant, chain, key)
    if last is not None and (last.seq, last.hash) == (row.seq, row.hash):
        return None
    head_seq = last.seq if last is not None else 0
    known = breaks.get((tenant, chain))
    if known is not None and known.head_seq == head_seq:
        raise _broken(known.why)
    walk = Chain(tenant, chain, gone_marks(connection, tenant, chain, key), before=last)
    for one_id, one in rows_of(connection, tenant, chain, after_id=row_id):
        walk.take(one)
        row_id = one_id
    walk.skip_gone()
    if walk.broken is not None or (walk.last, walk.hash) != (row.seq, row.hash):
        breaks[tenant, chain] = Break(head_seq, _why(tenant, chain, walk))
        raise _broken(breaks[tenant, chain].why)
    mark = AuditMark(
        tenant=tenant, chain=chain, seq=row.seq, hash=row.hash, at_us=now_us, adopted=row.adopted
    )
    return Reached(mark, row_id)


def gone_marks(connection: sa.Connection, tenant: str, chain: str, key: bytes) -> list[AuditMark]:
    """Give the marks of rows that were let go of, by number. Raises ``SealError``."""
    wanted = sa.select(AUDIT_MARKS.c.sealed).where(*_of(tenant, chain), AUDIT_MARKS.c.gone)
    found = connection.execute(wanted.order_by(AUDIT_MARKS.c.seq)).scalars()
    return [read_mark(sealed, key) for sealed in found]


def _last_head(
    connection: sa.Connection, tenant: str, chain: str, key: bytes
) -> tuple[AuditMark | None, int]:
    """Give what was signed last of how far a chain has come, and the id of that row."""
    wanted = sa.select(AUDIT_MARKS).where(*_of(tenant, chain), AUDIT_MARKS.c.gone.is_(False))
    head = connection.execute(wanted.order_by(AUDIT_MARKS.c.seq.desc()).limit(1)).one_or_none()
    return (read_mark(head.sealed, key), head.row_id) if head is not None else (None, -1)


def _why(tenant: str, chain: str, walk: Chain) -> str:
    what = walk.broken
    told = f"row {what.seq} is {what.fault}: {what.why}" if what else f"it ends at row {walk.last}"
    return f"the chain {chain!r} of audit rows of {tenant!r} does not hold, and is not signed: {told}"


def _broken(why: str) -> AuditBrokenError:
    return AuditBrokenError(
        why,
        remedy="pathgrade server audit-check --data DIR says more; somebody wrote into state.sqlite",
    )


def _of(tenant: str, chain: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return AUDIT_MARKS.c.tenant == tenant, AUDIT_MARKS.c.chain == chain


def _chain(tenant: str, chain: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return AUDIT_CHAINS.c.tenant == tenant, AUDIT_CHAINS.c.chain == chain
