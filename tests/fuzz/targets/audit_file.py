"""Exports of the audit chains, checked without a server (server/audit_file.py, analytics/audit_chain.py).

Some inputs are a whole export, hashed and signed by the target, in which one line is the fuzzer's: unless
that is the line that was there, something must be found wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import msgspec
from shaped import Taken, chosen, either, file_of
from signers import Signer, known

from analytics.audit_chain import ACTS, START, hash_of
from analytics.errors import ExportError, SealError
from analytics.trust import AuditMark, key_text, seal
from server.audit_file import FORMAT, End, Header, Mark, Row, verified

ALLOWED = (SealError, ExportError)
SHORT_RUNS = 150
KEY = Signer(bytes(range(32)))
PUBLIC = KEY.public
AT_US = 1_764_000_000_000_000
ROWS = 3


def target(data: bytes) -> object:
    with known(KEY):
        return either(data, _file, _one_line, _one_field, _mark)


def _file(data: bytes) -> None:
    verified(file_of(data, "audit"), PUBLIC)


def _one_line(data: bytes) -> None:
    taken = Taken(data)
    at, line = taken.number(0, ROWS + 2), taken.rest().replace(b"\n", b" ")
    lines = [*_lines()]
    changed, lines[at] = line != lines[at], line
    _, found = verified(file_of(b"\n".join(lines) + b"\n", "audit"), PUBLIC)
    if changed and b'"row"' in line and at in range(1, ROWS + 1):
        row = msgspec.json.decode(line, type=Row)  # base64 has spare bits: other text may be the same hash
        assert row == msgspec.json.decode(_lines()[at], type=Row) or any(one.broken for one in found)


def _one_field(data: bytes) -> None:
    """A row that says something else, or stands elsewhere, is found."""
    taken = Taken(data)
    at = taken.number(1, ROWS)
    row = msgspec.json.decode(_lines()[at], type=Row)
    field = taken.one_of(("seq", "at_us", "actor", "action", "subject", "detail", "hash"))
    number = taken.number(0, 2**64 - 1)
    values = {"seq": number, "at_us": number, "hash": taken.bytes(32)}
    other = msgspec.structs.replace(row, **{field: values.get(field, taken.text())})
    lines = [*_lines()]
    lines[at] = msgspec.json.encode(other)
    _, found = verified(file_of(b"\n".join(lines) + b"\n", "audit"), PUBLIC)
    assert (other == row) == (not any(one.broken for one in found)), "a changed row was not found"


def _mark(body: bytes) -> None:
    lines = [*_lines()]
    lines[ROWS + 1] = msgspec.json.encode(Mark(sealed=seal(body, KEY)))
    verified(file_of(b"\n".join(lines) + b"\n", "audit"), PUBLIC)


@functools.cache
def _lines() -> tuple[bytes, ...]:
    before, rows = START, []
    for seq in range(1, ROWS + 1):
        told = ("ada", "switch", "site clinic", f"mesh={seq}")
        before = hash_of(before, seq, AT_US + seq, "default", ACTS, *told)
        row = Row(seq=seq, at_us=AT_US + seq, hash=before, chain=ACTS,
                  **dict(zip(("actor", "action", "subject", "detail"), told, strict=True)))  # fmt: skip
        rows.append(row)
    mark = AuditMark(tenant="default", chain=ACTS, seq=ROWS, hash=before, at_us=AT_US)
    header = Header(format=FORMAT, tenant="default", key=key_text(PUBLIC), made_us=AT_US)
    told = (header, *rows, Mark(sealed=seal(mark.encode(), KEY)), End(rows=ROWS))
    return tuple(map(msgspec.json.encode, told))


def seeds() -> Iterator[bytes]:
    yield chosen(0, b"\n".join(_lines()) + b"\n")
    yield chosen(1, b"\2" + _lines()[2])
    yield chosen(1, b"\1" + _lines()[2])
    yield chosen(2, b"\1\1" + (2**63).to_bytes(8, "big"))
    yield chosen(2, b"\0\3" + bytes(40) + b"\4mesh")
    mark = AuditMark(tenant="default", chain=ACTS, seq=ROWS, hash=bytes(32), at_us=AT_US, gone_from=1)
    yield chosen(3, mark.encode())
