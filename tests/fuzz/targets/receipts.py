"""Receipts: readings as they are signed, and files of them checked without a server (analytics/receipt*.py).

Some inputs are a file that the target signed, in which one line or one field is the fuzzer's: what was not
signed by both ends counts as proven by none.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import msgspec
from shaped import Taken, chosen, either
from signers import Signer, known

from analytics import receipts
from analytics.batch import COLUMNS
from analytics.column import value_fault
from analytics.errors import SealError
from analytics.measurement import Reading
from analytics.receipt_file import FORMAT, Header, Line, check, read_anchors
from analytics.trust import key_text

ALLOWED = (SealError,)
SHORT_RUNS = 120
SRC, DST = Signer(bytes(range(32))), Signer(bytes(range(1, 33)))
SRC_KEY, DST_KEY = SRC.public, DST.public
ANCHORS = {"ws-1": frozenset({SRC_KEY}), "pacs": frozenset({DST_KEY})}
HEADER = msgspec.json.encode(Header(format=FORMAT, tenant="default"))


def target(data: bytes) -> object:
    with known(SRC, DST):
        return either(data, _reading, _one_line, _one_field, _file, read_anchors, receipts_signature)


def _reading(body: bytes) -> None:
    """One encoding only."""
    reading, layout = receipts.decode(body)
    if not any(value_fault(column, getattr(reading, column.name)) for column in receipts.columns_of(layout)):
        assert receipts.encode(reading, layout) == body


def _one_line(line: bytes) -> None:
    line = line.replace(b"\n", b" ")
    found = check([HEADER, line], ANCHORS)
    assert found.both == 0 or msgspec.json.decode(line, type=Line).reading == _body(), (
        "proven, and never signed"
    )


def _one_field(data: bytes) -> None:
    taken = Taken(data)
    field = taken.one_of(("reading", "src_key", "src_signature", "dst_key", "dst_signature"))
    value = taken.rest() if field == "reading" else taken.text()
    line = msgspec.structs.replace(_line(), **{field: value})
    found = check([HEADER, msgspec.json.encode(line)], ANCHORS)
    assert (found.both == 1) == (line == _line())


def _file(data: bytes) -> None:
    found = check(data.split(b"\n"), {})
    assert not (found.proven and found.from_file)


def receipts_signature(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert receipts.signature_text(receipts.signature_bytes(text)) == text


@functools.cache
def _body() -> bytes:
    blank = {column.name: _plain(column) for column in COLUMNS["readings"]}
    names = {"tenant": "default", "src": "ws-1", "dst": "pacs"}
    return receipts.encode(msgspec.convert(blank | names, Reading))


def _plain(column) -> object:
    if column.nullable:
        return None
    if column.kind == "int":
        return max(0, column.ge or 0)
    return column.choices[0] if column.choices else "t1"


@functools.cache
def _line() -> Line:
    return Line(
        reading=_body(),
        src_key=key_text(SRC_KEY),
        src_signature=receipts.signature_text(receipts.sign_sent(_body(), SRC)),
        dst_key=key_text(DST_KEY),
        dst_signature=receipts.signature_text(receipts.sign_seen(_body(), DST)),
    )


def seeds() -> Iterator[bytes]:
    line = msgspec.json.encode(_line())
    yield chosen(0, _body())
    yield chosen(1, line)
    yield chosen(2, b"\0" + _body())
    yield chosen(2, b"\1\x33" + key_text(SRC_KEY).encode())
    yield chosen(3, HEADER + b"\n" + line + b"\n" + line)
    yield chosen(4, f'pacs = ["{key_text(DST_KEY)}"]\nws-1 = "{key_text(SRC_KEY)}"\n'.encode())
    yield chosen(5, _line().src_signature.encode())
