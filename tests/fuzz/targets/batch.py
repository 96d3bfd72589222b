"""Batches of facts: the body of POST /v1/batches, and what the spool gives back.

Half of the inputs are msgpack as it comes; the others are a batch whose frame is right, so that the columns'
buffers are reached. What Arrow's quick look passes must pass every check, and nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import msgspec
from shaped import Taken, chosen, either

from analytics.batch import COLUMNS, MAX_ROWS, Batch, TableBlock, check_batch, pack_batch, unpack_rows
from analytics.column import ColumnBlock, pack
from analytics.errors import BatchError
from analytics.store.glance import right_columns

ALLOWED = (BatchError,)
BOOT = "00c0ffee"
MOST_SHAPED = 40
NAMES = {table: sorted(column.name for column in COLUMNS[table]) for table in sorted(COLUMNS)}


def target(data: bytes) -> object:
    return either(data, _as_it_comes, _framed)


def _as_it_comes(data: bytes) -> None:
    _both(data)


def _framed(data: bytes) -> None:
    """A column of one table is the fuzzer's; the others hold their defaults."""
    taken = Taken(data)
    table = taken.one_of(list(NAMES))
    rows = taken.number(0, MOST_SHAPED)
    columns = dict(_plain_columns(table, rows))
    for _ in range(taken.number(1, 3)):
        name = taken.one_of(NAMES[table])
        valid, offsets = (taken.some() if taken.flag() else None for _ in range(2))
        columns[name] = ColumnBlock(data=taken.some(), valid=valid, offsets=offsets)
    block = TableBlock(rows=rows, columns=columns)
    _both(msgspec.msgpack.encode(Batch(schema=3, agent="pacs", boot=BOOT, batch=1, tables={table: block})))


@functools.lru_cache(maxsize=1_000)
def _plain_columns(table: str, rows: int) -> dict[str, ColumnBlock]:
    return {column.name: pack(column, [_plain(column)] * rows) for column in COLUMNS[table]}


def _plain(column) -> object:
    if column.nullable:
        return None
    if column.kind == "int":
        return max(0, column.ge or 0)
    return () if column.kind == "ints" else column.choices[0] if column.choices else "pacs"


def _both(body: bytes) -> None:
    try:
        quick = check_batch(body, right_columns)
    except BatchError:
        quick = None
    try:
        strict = check_batch(body)
    except BatchError:
        assert quick is None, "Arrow's quick look passed what a check refuses"
        raise
    assert quick == strict, "the quick look changed the outcome"
    for name, block in strict.tables.items():
        assert block.rows <= MAX_ROWS
        if block.rows <= MOST_SHAPED:
            assert len(unpack_rows(name, block)) == block.rows


def seeds() -> Iterator[bytes]:
    yield chosen(0, pack_batch(agent="pacs", boot=BOOT, batch=1, tables={"hops": []}))
    yield chosen(0, pack_batch(agent="pacs", boot=BOOT, batch=2, tables={}))
    for table, name in enumerate(NAMES):
        for at, column in enumerate(sorted(COLUMNS[name], key=lambda one: one.name)):
            if column.kind == "str" and at % 3 == 0:
                yield chosen(1, bytes([table, 1, 0, at]) + b"\0\1\x08\0\0\0\0\4\0\0\0\x04pacs")
        yield chosen(1, bytes([table, 2, 0, 9]) + b"\0\0\x10" + bytes(16))
