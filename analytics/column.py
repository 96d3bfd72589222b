"""One column on its way: the buffers of its rows, as Arrow lays them out in memory.

So the sender needs only the standard library, and the receiver wraps the buffers without parsing rows:

* integers: ``data`` = little-endian int64;
* text: ``data`` = UTF-8, ``offsets`` = ``rows + 1`` little-endian int32, counted in bytes;
* lists of integers: ``data`` = little-endian int64 of all rows, ``offsets`` as for text, counted in integers;
* ``valid`` = one bit a row, least significant first, present only where something is ``None``.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence, Sized
from functools import lru_cache
from itertools import accumulate, chain, pairwise
from typing import Any, Final

import msgspec

from analytics import histogram
from analytics.errors import BatchError
from analytics.measurement import Column, Kind


class ColumnBlock(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column's buffers, as drawn above."""

    data: bytes
    valid: bytes | None = None
    offsets: bytes | None = None


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


def pack(column: Column, values: Sequence[Any]) -> ColumnBlock:
    """Lay out the values of a column."""
    valid = _bits(value is not None for value in values) if None in values else None
    if column.kind == "int":
        return ColumnBlock(data=_little(array("q", (value or 0 for value in values))), valid=valid)
    if column.kind == "ints":
        data = _little(array("q", chain.from_iterable(values)))
        return ColumnBlock(data=data, valid=valid, offsets=_offsets_of(values))
    encoded = [str(value or "").encode() for value in values]
    return ColumnBlock(data=b"".join(encoded), valid=valid, offsets=_offsets_of(encoded))


def _offsets_of(items: Iterable[Sized]) -> bytes:
    return _little(array("i", accumulate(map(len, items), initial=0)))


def _bits(flags: Iterable[bool]) -> bytes:
    packed = bytearray()
    for i, flag in enumerate(flags):
        if i % 8 == 0:
            packed.append(0)
        packed[-1] |= flag << (i % 8)
    return bytes(packed)


def unpack(column: Column, block: ColumnBlock, rows: int) -> list[Any]:
    """Read the values of a column. Raises ``BatchError`` for a length or an offset that does not fit."""
    values = _UNPACK[column.kind](column.name, block, rows)
    if block.valid is None:
        return values
    if not column.nullable or len(block.valid) != (rows + 7) // 8:
        raise BatchError(f"{column.name}: a validity map that does not fit")
    return [value if block.valid[i // 8] >> (i % 8) & 1 else None for i, value in enumerate(values)]


def _unpack_int(where: str, block: ColumnBlock, rows: int) -> list[int]:
    if len(block.data) != 8 * rows or block.offsets is not None:
        raise BatchError(f"{where}: {len(block.data)} bytes for {rows} integers")
    return _ints("q", block.data).tolist()


def _unpack_text(where: str, block: ColumnBlock, rows: int) -> list[str]:
    offsets = _offsets(where, block, rows, 1)
    try:
        if block.data.isascii():  # then a character is a byte
            text = block.data.decode()
            return [text[a:b] for a, b in pairwise(offsets)]
        return [block.data[a:b].decode() for a, b in pairwise(offsets)]
    except UnicodeDecodeError as error:
        raise BatchError(f"{where}: not UTF-8") from error


def _unpack_lists(where: str, block: ColumnBlock, rows: int) -> list[tuple[int, ...]]:
    offsets = _offsets(where, block, rows, 8)
    items = tuple(_ints("q", block.data))
    return [items[a:b] for a, b in pairwise(offsets)]


def within_bounds(column: Column, block: ColumnBlock, rows: int) -> bool:
    """True where a column of integers is right at first sight, at the speed of memory; False says nothing.

    What stands where a value is missing is looked at too: a sender of ours puts zeros there.
    """
    if column.kind != "int" or not rows or not integers_fit(column, block, rows):
        return False
    zeros = block.data == bytes(8 * rows)
    items = _ints("q", block.data[:8] if zeros else block.data)
    return not _int_fault(column, items)


def integers_fit(column: Column, block: ColumnBlock, rows: int) -> bool:
    """True where the buffers of a column of integers have the lengths that ``rows`` rows ask for."""
    if len(block.data) != 8 * rows or block.offsets is not None:
        return False
    return block.valid is None or (column.nullable and len(block.valid) == (rows + 7) // 8)


def values_said(column: Column, block: ColumnBlock, rows: int) -> list[Any]:
    """As ``unpack``, but one value where all rows of a column of text say the same: enough for a check."""
    text = repeated_text(block, rows) if column.kind == "str" else None
    if text is None:
        return unpack(column, block, rows)
    return unpack(column, ColumnBlock(data=text, offsets=_offsets_of([text])), 1)


def repeated_text(block: ColumnBlock, rows: int) -> bytes | None:
    """What every row of a column of text says; None where they differ, or where lengths do not fit."""
    if not rows or block.valid is not None or block.offsets is None or len(block.data) % rows:
        return None
    text = block.data[: len(block.data) // rows]
    same = block.data == text * rows and block.offsets == _steps(len(text), rows)
    return text if same else None


@lru_cache(maxsize=64)
def _steps(length: int, rows: int) -> bytes:
    """Offsets of rows that are all of one length: the same few again and again, 400 kB at most."""
    return _little(array("i", [length * row for row in range(rows + 1)]))


def _offsets(where: str, block: ColumnBlock, rows: int, item_bytes: int) -> list[int]:
    """Read where each row of a column begins, and where the last one ends."""
    if block.offsets is None or len(block.offsets) != 4 * (rows + 1):
        raise BatchError(f"{where}: offsets that do not fit {rows} rows")
    offsets = _ints("i", block.offsets).tolist()
    if offsets[0] != 0 or item_bytes * offsets[-1] != len(block.data) or sorted(offsets) != offsets:
        raise BatchError(f"{where}: offsets that do not fit the data")
    return offsets


_UNPACK: Final[dict[Kind, Callable[[str, ColumnBlock, int], list[Any]]]] = {
    "int": _unpack_int,
    "str": _unpack_text,
    "ints": _unpack_lists,
}


_IS_OF: Final[dict[Kind, Callable[[Any], bool]]] = {
    "int": lambda value: isinstance(value, int),
    "str": lambda value: isinstance(value, str),
    "ints": lambda value: isinstance(value, tuple) and all(type(item) is int for item in value),
}


def value_fault(column: Column, value: Any) -> str:
    """As ``fault``, for a value that need not even be of the column's kind."""
    if value is None:
        return "" if column.nullable else "missing"
    if not _IS_OF[column.kind](value):
        return f"{type(value).__name__}, not {column.kind}"
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        return "not UTF-8"
    return fault(column, [value])


def fault(column: Column, values: list[Any]) -> str:
    """Say what is wrong with the values of a column; empty if nothing is."""
    present = {value for value in values if value is not None}
    return _FAULTS[column.kind](column, present) if present else ""


def _int_fault(column: Column, values: Collection[int]) -> str:
    too_low = column.ge is not None and min(values) < column.ge
    too_high = column.le is not None and max(values) > column.le
    return f"outside {column.ge}..{column.le}" if too_low or too_high else ""


def _text_fault(column: Column, values: set[str]) -> str:
    if column.choices and not values <= set(column.choices):
        return f"not one of {', '.join(column.choices)}"
    if column.max_length is not None and max(map(len, values)) > column.max_length:
        return f"longer than {column.max_length} characters"
    return "" if column.pattern is None else _name_fault(column.pattern, values)


def _name_fault(pattern: str, values: set[str]) -> str:
    """The names of a fleet come again and again: those that were right are remembered, up to a bound."""
    known = _NAMES_SEEN.setdefault(pattern, set())
    new = values - known
    if not all(re.fullmatch(pattern, value) for value in new):
        return "not a name"
    if len(known) + len(new) > _NAMES_MOST:
        known.clear()
    known |= new
    return ""


_NAMES_MOST: Final = 20_000
_NAMES_SEEN: Final[dict[str, set[str]]] = {}


def _histogram_fault(column: Column, values: set[histogram.Histogram]) -> str:
    if column.max_length is not None and max(map(len, values)) > column.max_length:
        return f"more than {column.max_length} integers"
    return next(filter(None, map(histogram.fault, values)), "")


_FAULTS: Final[dict[Kind, Callable[[Column, Any], str]]] = {
    "int": _int_fault,
    "str": _text_fault,
    "ints": _histogram_fault,
}
