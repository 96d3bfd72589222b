"""Sealed files of the store, as found at a start: Parquet with a footer of ours (analytics/store/seal.py).

Half of the inputs damage a real file anywhere; the others write a whole one whose footer is the fuzzer's.
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
PATH = f"tenant=default/{TABLE}/date=2026-11-25/{7:010d}{seal.SUFFIX}"
FOOTER = b'{"format":1,"table":"hops","batches":[[["default","pacs","00c0ffee"],[[1,3]]]],"replaces":[]}'


def target(data: bytes) -> object:
    return either(data, _damaged, _told)


def _damaged(data: bytes) -> None:
    """Overwrite some of the file's bytes, as a disk would, or cut it."""
    taken = Taken(data)
    whole = bytearray(_file(FOOTER))
    for _ in range(taken.number(1, 4)):
        at, new = taken.number(0, 65_535) % len(whole), taken.some(8)
        whole[len(whole) - 1 - at : len(whole) - 1 - at + len(new)] = new
    _read(bytes(whole[: len(whole) - taken.number(0, 40)]))


def _told(data: bytes) -> None:
    _read(_file(data))


def _read(content: bytes) -> None:
    footer = read_footer(folder_of({PATH: content}, "store") / PATH)
    assert footer.file.table == TABLE


@functools.lru_cache(maxsize=4)
def _file(footer: bytes) -> bytes:
    schema = SCHEMAS[TABLE].with_metadata({FOOTER_KEY: footer})
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    return sink.getvalue().to_pybytes()


def seeds() -> Iterator[bytes]:
    yield chosen(0, b"\0" + (100).to_bytes(8, "big") + b"\2\xff\xff")
    yield chosen(1, FOOTER)
    yield chosen(1, b"[" * 60)
    yield chosen(1, b'{"format":1,"table":"hops","batches":[],"replaces":[1]}')
