"""Fact tables as Arrow: the schema, derived from the vocabulary, and batches wrapped without parsing rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import pyarrow as pa

from analytics.batch import COLUMNS, Batch
from analytics.column import ColumnBlock
from analytics.measurement import SORT_KEYS, Column, Kind, at_us, columns, count, named, text
from analytics.rollup import Rollup

_ARROW_TYPE: Final[dict[Kind, pa.DataType]] = {
    "int": pa.int64(),
    "str": pa.string(),
    "ints": pa.list_(pa.int64()),
}


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What the store adds to every row: the batch that it came in."""

    sender: Annotated[str, named("agent whose credential sent the batch")]
    boot: Annotated[str, text("life of the sender's outbox", most=32)]
    batch: Annotated[int, count("number of the batch in that life")]
    received_us: Annotated[int, at_us("when the server took the batch, by the server's clock")]


ORIGIN: Final = columns(Origin)
STORED: Final[dict[str, tuple[Column, ...]]] = {name: (*own, *ORIGIN) for name, own in COLUMNS.items()}
"""Table name -> the columns of its Parquet files."""


def _field(column: Column) -> pa.Field:
    described = {"description": column.description, "unit": column.unit}
    return pa.field(column.name, _ARROW_TYPE[column.kind], nullable=column.nullable, metadata=described)


SCHEMAS: Final[dict[str, pa.Schema]] = {
    name: pa.schema([_field(column) for column in stored]) for name, stored in STORED.items()
}

SORT_ORDER: Final[dict[str, list[tuple[str, str]]]] = {
    name: [(key, "ascending") for key in (*keys, "sender", "boot", "batch")]
    for name, keys in SORT_KEYS.items()
}


def tables_of(batch: Batch, *, tenant: str, received_us: int) -> dict[str, pa.Table]:
    """Wrap the buffers of a checked batch as Arrow tables; tables without rows are left out.

    The tenant of every row is that of the sender's credential, whatever the row says.
    """
    origin = Origin(sender=batch.agent, boot=batch.boot, batch=batch.batch, received_us=received_us)
    return {
        name: _table(name, block.rows, block.columns, origin, tenant)
        for name, block in batch.tables.items()
        if block.rows
    }


def _table(name: str, rows: int, blocks: dict[str, ColumnBlock], origin: Origin, tenant: str) -> pa.Table:
    constants: dict[str, Any] = {**msgspec.structs.asdict(origin), "tenant": tenant}
    arrays = [
        _repeat(column, constants[column.name], rows)
        if column.name in constants
        else _wrap(column, blocks[column.name], rows)
        for column in STORED[name]
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMAS[name])


def _repeat(column: Column, value: Any, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, _ARROW_TYPE[column.kind]), rows)


def _wrap(column: Column, block: ColumnBlock, rows: int) -> pa.Array:
    """Lay an Arrow array over the buffers of a column; ``analytics/column.py`` draws them."""
    kind = _ARROW_TYPE[column.kind]
    if column.kind == "ints":
        items = _array(pa.int64(), len(block.data) // 8, [None, block.data])
        return _array(kind, rows, [block.valid, block.offsets], [items])
    parts = [block.valid, block.data] if block.offsets is None else [block.valid, block.offsets, block.data]
    return _array(kind, rows, parts)


def _array(
    kind: pa.DataType, rows: int, parts: Sequence[bytes | None], children: Sequence[pa.Array] | None = None
) -> pa.Array:
    buffers = [None if part is None else pa.py_buffer(part) for part in parts]
    return pa.Array.from_buffers(kind, rows, buffers, children=children)


def as_current(table: str, content: pa.Table) -> pa.Table:
    """Bring the rows of a file to today's columns: what came later has its default, or null."""
    names = set(content.column_names)
    arrays = [
        content.column(column.name)
        if column.name in names
        else _repeat(column, column.default, content.num_rows)
        for column in STORED[table]
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMAS[table])


def file_metadata(told: dict[str, Any]) -> dict[bytes, bytes]:
    """Encode what a Parquet file says of itself, for its footer."""
    return {FOOTER_KEY: json.dumps(told, separators=(",", ":")).encode()}


FOOTER_KEY: Final = b"pathgrade"

ROLLUP: Final = columns(Rollup)
ROLLUP_SCHEMA: Final = pa.schema([_field(column) for column in ROLLUP])
