"""Arrow batches as the bytes of a file, piece by piece: Parquet, CSV, or Arrow IPC. Pure but for memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from analytics.sheets import FORMULA, QUOTE

GROUP_ROWS: Final = 100_000
"""Rows of a row group of Parquet: what is in memory at once."""

ENDINGS: Final[dict[str, str]] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".arrow": "arrow",
    ".feather": "arrow",
}
"""How a file's name ends -> its format. Arrow is the IPC file format, also called Feather."""
FORMATS: Final = tuple(dict.fromkeys(ENDINGS.values()))
MEDIA_TYPES: Final[dict[str, str]] = {
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.file",
}


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken; knows how much there was."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def written(schema: pa.Schema, batches: Iterable[pa.RecordBatch], format_: str) -> Iterator[bytes]:
    """Write batches of a schema: the pieces, one after the other, are the file. Raises what they raise."""
    sink = _Sink()
    with _WRITERS[format_](sink, _flat(schema) if format_ == "csv" else schema) as writer:
        for group in _grouped(batches):
            table = pa.Table.from_batches(group, schema)
            writer.write_table(_as_text(table) if format_ == "csv" else table)
            yield sink.take()
    yield sink.take()


def _grouped(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Gather small batches: a row group of few rows compresses badly."""
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if sum(one.num_rows for one in group) >= GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _flat(schema: pa.Schema) -> pa.Schema:
    """CSV has no lists: they are text, numbers by blanks, texts by semicolons."""
    return pa.schema([field.with_type(pa.string()) if _is_list(field) else field for field in schema])


def _as_text(table: pa.Table) -> pa.Table:
    columns = [
        pa.chunked_array([[_joined(value) for value in column.to_pylist()]], pa.string())
        if _is_list(field)
        else column
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    return pa.Table.from_arrays(
        [_harmless(column) if pa.types.is_string(column.type) else column for column in columns],
        schema=_flat(table.schema),
    )


def _harmless(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """As ``analytics.sheets.harmless``, by whole columns."""
    runs = pc.is_in(pc.utf8_slice_codeunits(column, 0, 1), pa.array(FORMULA))
    return pc.if_else(runs, pc.binary_join_element_wise(QUOTE, column, ""), column)


def _joined(values: list[Any] | None) -> str | None:
    if values is None:
        return None
    return ("; " if any(isinstance(value, str) for value in values) else " ").join(map(str, values))


def _is_list(field: pa.Field) -> bool:
    return bool(pa.types.is_list(field.type))


_WRITERS: Final[dict[str, Callable[[_Sink, pa.Schema], AbstractContextManager[Any]]]] = {
    "parquet": lambda sink, schema: pq.ParquetWriter(sink, schema, compression="zstd"),
    "csv": pyarrow.csv.CSVWriter,
    "arrow": pa.ipc.new_file,
}
