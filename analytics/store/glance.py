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
from analytics.column import ColumnBlock, fault, integers_fit
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
    fitting = [(column.name, told.data) for column, told in there if integers_fit(column, told, block.rows)]
    if not fitting:
        return []
    data = b"".join(part for _, part in fitting)
    found = pc.min_max(pa.Array.from_buffers(_INT64, len(data) // 8, [None, pa.py_buffer(data)]))
    least, greatest = bounds
    within = least <= found["min"].as_py() and found["max"].as_py() <= greatest
    return [name for name, _ in fitting] if within else []


def _text_is_right(column: Column, table: str, block: TableBlock, agent: str) -> bool:
    told = block.columns.get(column.name)
    if told is None or told.valid is not None or not told.data.isascii():  # ASCII: a character is a byte
        return False
    owner = column.name == OWNER[table]
    if not (owner or column.choices or column.pattern is not None):
        return _no_longer_than(column.max_length, told, block.rows)
    array = _text_array(told, block.rows)
    if array is None:
        return False
    values = pc.unique(array).to_pylist()
    return (not owner or values == [agent]) and not fault(column, values)


def _no_longer_than(most: int | None, told: ColumnBlock, rows: int) -> bool:
    if not told.data and told.offsets == bytes(_OFFSET_BYTES * (rows + 1)):
        return True
    array = _text_array(told, rows)
    if array is None:
        return False
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
