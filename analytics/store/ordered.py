"""Writing a large sorted Parquet file in small pieces: so many rows in memory, however many the file has.

What is written is sorted by tenant and owner first, so a piece is a span of owners. Sources are sorted alike,
so DuckDB skips what a span does not touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from analytics.measurement import Column
from analytics.store.files import make_folder, replace_durably

PIECE_ROWS: Final = 500_000
"""Some 300 MB of readings as Arrow."""
IN_SPAN: Final = "tenant = $tenant AND src BETWEEN $first AND $last"
"""What is of a ``Span``, in tables whose owner is src."""


class Span(NamedTuple):
    """Owners of one tenant, one after the other."""

    tenant: str
    first: str
    last: str


def spans(counted: Sequence[Mapping[str, Any]], most: int = PIECE_ROWS) -> Iterator[Span]:
    """Cut owners (``tenant``, ``owner``, ``n``, sorted) so that a span has ``most`` rows, or one owner."""
    begun: list[Mapping[str, Any]] = []
    for one in counted:
        other = begun and begun[0]["tenant"] != one["tenant"]
        if begun and (other or sum(each["n"] for each in begun) + one["n"] > most):
            yield _span(begun)
            begun = []
        begun.append(one)
    if begun:
        yield _span(begun)


def _span(owners: Sequence[Mapping[str, Any]]) -> Span:
    return Span(owners[0]["tenant"], owners[0]["owner"], owners[-1]["owner"])


def write_pieces(path: Path, schema: pa.Schema, columns: Sequence[Column], pieces: Iterable[pa.Table]) -> int:
    """Write a file whole and durably, a row group or more a piece; returns its rows. Raises ``OSError``."""
    make_folder(path.parent)
    rows = 0

    def write(file: BinaryIO) -> None:
        nonlocal rows
        with pq.ParquetWriter(file, schema, **encodings(columns)) as writer:
            for piece in pieces:
                writer.write_table(piece.cast(schema))
                rows += piece.num_rows

    replace_durably(path, write)
    return rows


def encodings(columns: Sequence[Column]) -> dict[str, Any]:
    """Text by dictionary, integers by difference: sorted rows repeat and grow slowly."""
    return {
        "compression": "zstd",
        "use_dictionary": [_leaf(column) for column in columns if column.kind != "int"],
        "column_encoding": {column.name: "DELTA_BINARY_PACKED" for column in columns if column.kind == "int"},
    }


def _leaf(column: Column) -> str:
    """Name a column as Parquet does: the items of a list are a column of their own."""
    return f"{column.name}.list.element" if column.kind == "ints" else column.name
