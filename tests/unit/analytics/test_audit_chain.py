"""Chains of audit rows: any change, gap, swap or cut is found, and at the right row."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.audit_chain import ACTS, START, Chain, ChainResult, ChainRow, Fault, hash_of
from analytics.trust import AuditMark

TENANT = "default"


def rows(count: int, *, before: bytes = START, first: int = 1) -> list[ChainRow]:
    made = []
    for seq in range(first, first + count):
        told = {"actor": "ada", "action": "login", "subject": f"s{seq}", "detail": ""}
        before = hash_of(before, seq, seq * 1_000, TENANT, ACTS, *told.values())
        made.append(ChainRow(seq=seq, at_us=seq * 1_000, hash=before, **told))
    return made


def head(row: ChainRow, gone_from: int = 0) -> AuditMark:
    return AuditMark(
        tenant=TENANT, chain=ACTS, seq=row.seq, hash=row.hash, at_us=9, adopted=0, gone_from=gone_from
    )


def checked(
    found: list[ChainRow],
    marks: list[AuditMark],
    noted: dict[int, bytes] | None = None,
    *,
    whole: bool = True,
) -> ChainResult:
    chain = Chain(TENANT, ACTS, marks, noted or {})
    for row in found:
        chain.take(row)
    return chain.end(whole=whole)


def fault(found: ChainResult) -> tuple[int, Fault] | None:
    return (found.broken.seq, found.broken.fault) if found.broken else None


def test_what_nobody_touched_is_intact_and_says_from_where_to_where() -> None:
    made = rows(5)
    found = checked(made, [head(made[-1])])
    assert (found.broken, found.first, found.last, found.rows) == (None, 1, 5, 5)
    assert found.hash == made[-1].hash.hex()
    assert checked([], []).broken is None


@pytest.mark.parametrize("name", ["at_us", "actor", "action", "subject", "detail", "hash"])
def test_one_changed_word_is_found_at_its_row(name: str) -> None:
    made = rows(6)
    other = {"at_us": 5, "hash": bytes(32)}.get(name, "mallory")
    forged = [*made[:2], msgspec.structs.replace(made[2], **{name: other}), *made[3:]]
    assert fault(checked(forged, [head(made[-1])])) == (3, Fault.CHANGED)


def test_a_row_that_is_gone_moved_or_cut_off_is_found() -> None:
    made = rows(6)
    signed = [head(made[-1])]
    assert fault(checked([*made[:2], *made[3:]], signed)) == (4, Fault.MISSING)
    assert fault(checked([*made[:2], made[3], made[2], *made[4:]], signed)) == (3, Fault.OUT_OF_ORDER)
    assert fault(checked([*made[:3], made[1], *made[3:]], signed)) == (2, Fault.OUT_OF_ORDER)
    assert fault(checked(made[1:], signed)) == (2, Fault.MISSING)
    assert fault(checked(made[:4], signed)) == (5, Fault.CUT)
    assert fault(checked([], signed)) == (1, Fault.CUT)
    more = rows(1, before=made[-1].hash, first=7)
    assert fault(checked([*made, *more], signed)) == (7, Fault.UNSIGNED)
    assert checked([*made, *more], signed, whole=False).broken is None


def test_hashes_made_anew_do_not_fit_what_was_signed_or_noted() -> None:
    made = rows(6)
    anew = rows(5, before=b"\1" * 32, first=2)
    forged = [
        msgspec.structs.replace(
            made[0], actor="eve", hash=hash_of(START, 1, 1_000, TENANT, ACTS, "eve", "login", "s1", "")
        )
    ]
    anew = rows(5, before=forged[0].hash, first=2)
    forged += anew
    assert fault(checked(forged, [head(made[3]), head(made[-1])])) == (4, Fault.HASHED_AGAIN)
    assert fault(checked(forged, [])) == (1, Fault.UNSIGNED)
    assert fault(checked(forged, [head(forged[-1])], {2: made[1].hash})) == (2, Fault.HASHED_AGAIN)
    assert fault(checked(made[:4], [head(made[3])], {6: made[5].hash})) == (5, Fault.CUT)
    assert checked(made, [head(made[-1])], {2: made[1].hash}).broken is None


def test_rows_that_were_let_go_of_are_no_gap_and_no_more_than_those() -> None:
    made = rows(10)
    gone = head(made[3], gone_from=1)
    signed = [gone, head(made[-1])]
    found = checked(made[4:], signed)
    assert (found.broken, found.first, found.last) == (None, 5, 10)
    assert fault(checked(made[5:], signed)) == (6, Fault.MISSING)
    hole = replace(head(made[6]), gone_from=6)
    assert checked([made[4], *made[7:]], [*signed, hole]).broken is None
    assert fault(checked(made[7:], [*signed, hole])) == (8, Fault.MISSING)  # row 5 was not let go of
    assert checked([], [head(made[-1], gone_from=1), head(made[-1])]).broken is None
    assert fault(checked(made[4:], signed, {2: made[1].hash})) == (2, Fault.NOT_TO_TELL)


@given(
    size=st.integers(2, 30),
    place=st.integers(0, 10**6),
    how=st.sampled_from(["change", "drop", "swap", "cut", "again"]),
)
def test_whatever_is_done_to_it_is_found(size: int, place: int, how: str) -> None:
    made = rows(size)
    at = place % (size - 1)
    forged = list(made)
    if how == "change":
        forged[at] = msgspec.structs.replace(made[at], detail="x")
    elif how == "drop":
        del forged[at]
    elif how == "swap":
        forged[at], forged[at + 1] = forged[at + 1], forged[at]
    elif how == "cut":
        del forged[at + 1 :]
    else:
        forged.insert(at + 1, made[at])
    found = checked(forged, [head(made[-1])])
    assert found.broken is not None
    assert abs(found.broken.seq - (at + 1)) <= 1
