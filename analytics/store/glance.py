"""Checks of whole columns by Arrow: which of a batch are right beyond doubt.

What is said here is only ever yes. Of any other column ``analytics/batch.py`` looks at every value, and words
what is wrong; so there is one definition of what is wrong, and here is a faster way to see that nothing is.
The agent has no Arrow: it checks by ``analytics/batch.py`` alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from analytics.batch import COLUMNS, TableBlock
from analytics.column import ColumnBlock, fault, integers_fit, repeated_text
from analytics.measurement import OWNER, Column

_INT64: Final = pa.int64()
_STRING: Final = pa.string()
_OFFSET: Final = struct.Struct("<i")
_OFFSET_BYTES: Final = _OFFSET.size


def right_columns(name: str, block: TableBlock, agent: str) -> frozenset[str]:
    """Name the columns of a table that a strict check would pass, as far as that is plain; never raises."""
    if not block.rows:
        return frozenset()
    texts = (column.name for column in _TEXTS[name] if _text_is_right(column, name, block, agent))
    integers = (_integers_right(bounds, alike, block) for bounds, alike in _INTEGERS[name].items())
    return frozenset(texts).union(*integers)


Bounds = tuple[int, int]
"""Least and greatest value allowed."""


def _by_bounds(columns: Sequence[Column]) -> Iterator[tuple[Bounds, tuple[Column, ...]]]:
    bounded = [
        ((column.ge, column.le), column)
        for column in columns
        if column.kind == "int" and column.ge is not None and column.le is not None
    ]
    for bounds, alike in groupby(sorted(bounded, key=lambda item: item[0]), key=lambda item: item[0]):
        yield bounds, tuple(column for _, column in alike)


_INTEGERS: Final[Mapping[str, Mapping[Bounds, tuple[Column, ...]]]] = MappingProxyType(
    {name: dict(_by_bounds(columns)) for name, columns in COLUMNS.items()}
)
"""Table -> bounds -> the columns that have these: they are looked at as if they were one."""
_TEXTS: Final[Mapping[str, tuple[Column, ...]]] = MappingProxyType(
    {name: tuple(c for c in columns if c.kind == "str") for name, columns in COLUMNS.items()}
)


def _integers_right(bounds: Bounds, alike: Sequence[Column], block: TableBlock) -> list[str]:
    """All columns of the same bounds, or none. What stands where a value is missing is looked at too."""
    there = ((column, block.columns[column.name]) for column in alike if column.name in block.columns)
    fitting = {column.name: told.data for column, told in there if integers_fit(column, told, block.rows)}
    zeros = bytes(8 * block.rows)  # most columns of most batches
    others = [part for part in fitting.values() if part != zeros]
    if len(others) < len(fitting):
        others.append(zeros[:8])
    return list(fitting) if fitting and _within(bounds, b"".join(others)) else []


def _within(bounds: Bounds, data: bytes) -> bool:
    if data == bytes(8):
        return bounds[0] <= 0 <= bounds[1]
    found = pc.min_max(pa.Array.from_buffers(_INT64, len(data) // 8, [None, pa.py_buffer(data)]))
    return bool(bounds[0] <= found["min"].as_py() and found["max"].as_py() <= bounds[1])


def _text_is_right(column: Column, table: str, block: TableBlock, agent: str) -> bool:
    told = block.columns.get(column.name)
    if told is None or told.valid is not None or not told.data.isascii():  # ASCII: a character is a byte
        return False
    text = repeated_text(told, block.rows)
    if text is not None:
        value = text.decode()
        return (column.name != OWNER[table] or value == agent) and not fault(column, [value])
    array = _text_array(told, block.rows)
    if array is None or column.name == OWNER[table]:
        return False
    if column.choices or column.pattern is not None:
        return not fault(column, pc.unique(array).to_pylist())
    most = column.max_length
    return most is None or len(told.data) <= most or pc.max(pc.binary_length(array)).as_py() <= most


def _text_array(told: ColumnBlock, rows: int) -> pa.Array | None:
    """Lay an array over a column of text; None where an offset does not fit."""
    offsets = told.offsets
    if offsets is None or len(offsets) != _OFFSET_BYTES * (rows + 1):
        return None
    ends = _OFFSET.unpack_from(offsets)[0], _OFFSET.unpack_from(offsets, _OFFSET_BYTES * rows)[0]
    if ends != (0, len(told.data)):
        return None
    try:
        array = pa.Array.from_buffers(_STRING, rows, [None, pa.py_buffer(offsets), pa.py_buffer(told.data)])
        array.validate(full=True)  # that no offset is below the one before it
    except pa.ArrowInvalid:
        return None
    return array
