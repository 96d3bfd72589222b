"""The batch: rows of facts on their way from an agent to the server.

``POST /v1/batches``, msgpack, optionally gzip::

    { schema: 1, agent: "pacs", boot: "6f1c..", batch: 17,
      tables: { "readings": { rows: 2, columns: { "src": {data, offsets}, "rtt_p50_us": {data, valid}, ...}}}}

A column is laid out as Arrow lays it out in memory, so that the sender needs only the standard library and
the receiver wraps the buffers without parsing rows:

* integers: ``data`` = little-endian int64;
* text: ``data`` = UTF-8, ``offsets`` = ``rows + 1`` little-endian int32;
* ``valid`` = one bit a row, least significant first, present only where something is ``None``.

(agent, boot, batch) names a batch for ever: the server keeps one copy however often it is sent.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Final

import msgspec

from analytics.errors import BatchError, SchemaVersionError
from analytics.measurement import FACTS, OWNER, Column, columns, count, named

SCHEMA_VERSION: Final = 1
MAX_ROWS: Final = 100_000
"""Per table and batch: a thousand peers' hops, and a bound on what one check may cost."""

COLUMNS: Final[dict[str, tuple[Column, ...]]] = {name: columns(table) for name, table in FACTS.items()}


class ColumnBlock(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column's buffers, as drawn above."""

    data: bytes
    valid: bytes | None = None
    offsets: bytes | None = None


class TableBlock(msgspec.Struct, frozen=True):
    """The rows of one fact table."""

    rows: Annotated[int, msgspec.Meta(ge=0, le=MAX_ROWS)]
    columns: dict[str, ColumnBlock]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent sends at once, and the unit of acknowledgement."""

    schema: int
    agent: Annotated[str, named("the sender")]
    boot: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8,32}\Z", description="this life of the outbox")]
    batch: Annotated[int, count("number of the batch in this life")]
    tables: dict[str, TableBlock]


def pack_batch(*, agent: str, boot: str, batch: int, tables: Mapping[str, Sequence[msgspec.Struct]]) -> bytes:
    """Encode rows of facts, keyed by table name, as the body of one batch."""
    blocks = {
        name: TableBlock(rows=len(rows), columns={c.name: _pack(c, rows) for c in COLUMNS[name]})
        for name, rows in tables.items()
    }
    return msgspec.msgpack.encode(
        Batch(schema=SCHEMA_VERSION, agent=agent, boot=boot, batch=batch, tables=blocks)
    )


def check_batch(body: bytes) -> Batch:
    """Decode a batch and check every length, bound and owner.

    Raises ``SchemaVersionError`` for a version this build does not know, ``BatchError`` for anything else.
    """
    try:
        version = msgspec.msgpack.decode(body, type=_Versioned).schema
        if version != SCHEMA_VERSION:
            raise SchemaVersionError(seen=version, known=SCHEMA_VERSION)
        batch = msgspec.msgpack.decode(body, type=Batch)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BatchError(f"not a batch: {error}") from error
    for name, block in batch.tables.items():
        if name not in FACTS:
            raise BatchError(f"unknown table {name!r}")
        _check_table(name, block, batch.agent)
    return batch


def row_fault(name: str, row: msgspec.Struct, agent: str) -> str:
    """Say why a row would have the whole batch of ``agent`` refused; empty if it would not."""
    for column in COLUMNS[name]:
        value = getattr(row, column.name)
        fault = _value_fault(column, value)
        if not fault and column.name == OWNER[name] and value != agent:
            fault = f"not {agent}'s"
        if fault:
            return f"{name}.{column.name}: {fault}"
    return ""


def unpack_rows(name: str, block: TableBlock) -> list[Any]:
    """Rows of a checked table as structs: for tests and small tools; the server wraps the buffers instead."""
    values = {c.name: _unpack(c, block.columns[c.name], block.rows) for c in COLUMNS[name]}
    return [
        msgspec.convert({key: column[i] for key, column in values.items()}, FACTS[name])
        for i in range(block.rows)
    ]


class _Versioned(msgspec.Struct):
    schema: int


def _little(items: array[int]) -> bytes:
    if sys.byteorder == "big":
        items.byteswap()
    return items.tobytes()


def _ints(typecode: str, data: bytes) -> array[int]:
    items: array[int] = array(typecode)
    items.frombytes(data)
    if sys.byteorder == "big":
        items.byteswap()
    return items


def _pack(column: Column, rows: Sequence[msgspec.Struct]) -> ColumnBlock:
    values = [getattr(row, column.name) for row in rows]
    valid = _bits(value is not None for value in values) if None in values else None
    if column.kind == "int":
        return ColumnBlock(data=_little(array("q", (value or 0 for value in values))), valid=valid)
    encoded = [str(value or "").encode() for value in values]
    offsets = array("i", [0])
    for item in encoded:
        offsets.append(offsets[-1] + len(item))
    return ColumnBlock(data=b"".join(encoded), valid=valid, offsets=_little(offsets))


def _bits(flags: Iterable[bool]) -> bytes:
    packed = bytearray()
    for i, flag in enumerate(flags):
        if i % 8 == 0:
            packed.append(0)
        packed[-1] |= flag << (i % 8)
    return bytes(packed)


def _check_table(name: str, block: TableBlock, agent: str) -> None:
    expected = {column.name for column in COLUMNS[name]}
    if (seen := set(block.columns)) != expected:
        raise BatchError(f"{name}: columns differ: {', '.join(sorted(seen ^ expected))}")
    for column in COLUMNS[name]:
        values = _unpack(column, block.columns[column.name], block.rows)
        if fault := _fault(column, values):
            raise BatchError(f"{name}.{column.name}: {fault}")
        if column.name == OWNER[name] and any(value != agent for value in values):
            raise BatchError(f"{name}.{column.name}: rows that are not {agent}'s")


def _unpack(column: Column, block: ColumnBlock, rows: int) -> list[Any]:
    where = column.name
    values: list[Any]
    if column.kind == "int":
        if len(block.data) != 8 * rows or block.offsets is not None:
            raise BatchError(f"{where}: {len(block.data)} bytes for {rows} integers")
        values = _ints("q", block.data).tolist()
    else:
        values = _unpack_text(where, block, rows)
    if block.valid is None:
        return values
    if not column.nullable or len(block.valid) != (rows + 7) // 8:
        raise BatchError(f"{where}: a validity map that does not fit")
    return [value if block.valid[i // 8] >> (i % 8) & 1 else None for i, value in enumerate(values)]


def _unpack_text(where: str, block: ColumnBlock, rows: int) -> list[str]:
    if block.offsets is None or len(block.offsets) != 4 * (rows + 1):
        raise BatchError(f"{where}: offsets that do not fit {rows} rows")
    offsets = _ints("i", block.offsets).tolist()
    if offsets[0] != 0 or offsets[-1] != len(block.data) or sorted(offsets) != offsets:
        raise BatchError(f"{where}: offsets that do not fit the text")
    try:
        return [block.data[a:b].decode() for a, b in pairwise(offsets)]
    except UnicodeDecodeError as error:
        raise BatchError(f"{where}: not UTF-8") from error


def _value_fault(column: Column, value: Any) -> str:
    """As ``_fault``, for a value that need not even be of the column's kind."""
    if value is None:
        return "" if column.nullable else "missing"
    if not isinstance(value, int if column.kind == "int" else str):
        return f"{type(value).__name__}, not {column.kind}"
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        return "not UTF-8"
    return _fault(column, [value])


def _fault(column: Column, values: list[Any]) -> str:
    """Say what is wrong with the values of a column; empty if nothing is."""
    present = {value for value in values if value is not None}
    if not present:
        return ""
    return _int_fault(column, present) if column.kind == "int" else _text_fault(column, present)


def _int_fault(column: Column, values: set[int]) -> str:
    too_low = column.ge is not None and min(values) < column.ge
    too_high = column.le is not None and max(values) > column.le
    return f"outside {column.ge}..{column.le}" if too_low or too_high else ""


def _text_fault(column: Column, values: set[str]) -> str:
    if column.choices and not values <= set(column.choices):
        return f"not one of {', '.join(column.choices)}"
    if column.max_length is not None and max(map(len, values)) > column.max_length:
        return f"longer than {column.max_length} characters"
    if column.pattern is not None and not all(re.fullmatch(column.pattern, value) for value in values):
        return "not a name"
    return ""
