"""Who signed what a path's page shows: the latest test of each direction, its receipt, and whether it holds.

What is told here is the server's word; it is for people to see that there is something to check without it
(docs/receipts.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from analytics.errors import SealError
from analytics.grade import ended_us
from analytics.measurement import Reading, Receipt
from analytics.receipt_file import FORMAT, Header, check, line_of
from analytics.store.store import Store
from server.receipts import Unsigned


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed of one direction's latest test."""

    src: str
    dst: str
    cycle: int  # s since 1970
    tested_us: int  # when the test ended
    ends: int = 0  # that signed, by signatures that hold: 2, 1 (src) or 0
    signed_us: int | None = None  # when src did, by src's clock
    why_not: str = ""  # what src says of it, where dst did not sign
    false: str = ""  # why what was signed does not hold; empty where it does
    unsigned: Unsigned | None = None  # why there is no receipt; None: there is one


def proofs_of(
    store: Store, tenant: str, pair: tuple[str, str], at_us: int | None, unsigned: Unsigned
) -> list[Proof]:
    """Tell of both directions between two agents, the asked one first. Raises ``StoreError``.

    ``at_us``: as of that moment; ``unsigned`` is why there is no receipt, where there is none.
    """
    readings = store.readings_of(tenant, [pair, pair[::-1]], at_us)
    receipts = {_key(one): one for one in store.receipts_of_pair(tenant, pair, readings)}
    ordered: Sequence[Reading] = sorted(readings, key=lambda one: one.src != pair[0])
    return [proof_of(one, receipts.get(_key(one)), unsigned) for one in ordered]


def proof_of(reading: Reading, receipt: Receipt | None, unsigned: Unsigned) -> Proof:
    """Check what was signed of a reading as it is stored now. Pure."""
    told = Proof(src=reading.src, dst=reading.dst, cycle=reading.cycle, tested_us=ended_us(reading))
    if receipt is None:
        return msgspec.structs.replace(told, unsigned=unsigned)
    try:
        lines = (Header(format=FORMAT), line_of(reading, receipt))
    except SealError as error:  # of a layout that this release does not know, as an agent may send
        return msgspec.structs.replace(told, signed_us=receipt.signed_us, false=str(error))
    found = check(map(msgspec.json.encode, lines), {})
    return msgspec.structs.replace(
        told,
        ends=2 * found.both + found.one_end,
        signed_us=receipt.signed_us,
        why_not=receipt.why_not,
        false=next(iter(found.false), ""),
    )


def _key(row: Reading | Receipt) -> tuple[int, str, str, str]:
    return row.cycle, row.test, row.src, row.dst
