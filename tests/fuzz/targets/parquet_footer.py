"""Sealed files of the store, as found at a start: Parquet with a footer of ours (analytics/store/seal.py).

Half of the inputs damage a real file anywhere; the others are a whole one in which the fuzzer's footer stands
in the place of ours: Arrow takes a millisecond to write a file.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from shaped import Taken, chosen, either, folder_of

from analytics.errors import StoreError
from analytics.store import seal
from analytics.store.seal import FOOTER_KEY, SCHEMAS, UnreadableError, read_footer

ALLOWED = (UnreadableError, StoreError)
SHORT_RUNS = 25
TABLE = "hops"
AT_US = 1_764_000_000_000_000
PATH = f"tenant=default/{TABLE}/date=2026-11-25/{7:010d}{seal.SUFFIX}"
FOOTER = b'{"format":1,"table":"hops","batches":[[["default","pacs","00c0ffee"],[[1,3]]]],"replaces":[]}'


def target(data: bytes) -> object:
    return either(data, _damaged, _told)


def _damaged(data: bytes) -> None:
    """Overwrite some of the file's bytes, as a disk would, or cut it."""
    taken = Taken(data)
    whole = bytearray(_file())
    for _ in range(taken.number(1, 4)):
        at, new = taken.number(0, 65_535) % len(whole), taken.some(8)
        whole[len(whole) - 1 - at : len(whole) - 1 - at + len(new)] = new
    _read(bytes(whole[: len(whole) - taken.number(0, 40)]))


def _told(data: bytes) -> None:
    _read(_with_footer(data))


def _read(content: bytes) -> None:
    footer = read_footer(folder_of({PATH: content}, "store") / PATH)
    assert footer.file.table == TABLE


def _with_footer(footer: bytes) -> bytes:
    """The file that tells no schema of Arrow's, with another footer of ours.

    It is a value of Thrift's compact protocol; the length of all values stands at the end.
    """
    whole = _file(store_schema=False)
    begin = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    before, found, behind = whole[begin:-8].partition(_varint(len(FOOTER)) + FOOTER)
    assert found
    told = before + _varint(len(footer)) + footer + behind
    return whole[:begin] + told + len(told).to_bytes(4, "little") + whole[-4:]


@functools.cache
def _file(*, store_schema: bool = True) -> bytes:
    schema = SCHEMAS[TABLE].with_metadata({FOOTER_KEY: FOOTER})
    row = pa.table({field.name: [_plain(field.type)] for field in schema}, schema=schema)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, store_schema=store_schema) as writer:
        writer.write_table(row)
        if not store_schema:  # which has our footer in it, too, and then counts before this
            writer.add_key_value_metadata({FOOTER_KEY: FOOTER})
    return sink.getvalue().to_pybytes()


def _plain(kind: pa.DataType) -> object:
    return "default" if pa.types.is_string(kind) else AT_US


def _varint(number: int) -> bytes:
    rest, low = number >> 7, number & 0x7F
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def seeds() -> Iterator[bytes]:
    yield chosen(0, b"\0" + (100).to_bytes(8, "big") + b"\2\xff\xff")
    yield chosen(1, FOOTER)
    yield chosen(1, b"[" * 60)
    yield chosen(1, b'{"format":1,"table":"hops","batches":[],"replaces":[1]}')
