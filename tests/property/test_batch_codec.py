"""The batch codec under arbitrary rows and arbitrary damage."""

import contextlib
from array import array
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from analytics.batch import check_batch, pack_batch, unpack_rows
from analytics.errors import BatchError
from analytics.histogram import fault
from analytics.measurement import FACTS, OWNER, Column, Flow, columns
from tests.property.strategies import HISTOGRAMS

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,8}[a-z0-9])?", fullmatch=True)


def values(column: Column) -> st.SearchStrategy[Any]:
    """Generate what a column may hold, by its own description."""
    if column.kind == "int":
        some: st.SearchStrategy[Any] = st.integers(column.ge, column.le)
    elif column.kind == "ints":
        some = HISTOGRAMS
    elif column.choices:
        some = st.sampled_from(column.choices)
    elif column.pattern:
        some = NAMES
    else:
        some = st.text(max_size=min(column.max_length or 20, 20), alphabet=st.characters(codec="utf-8"))
    return st.none() | some if column.nullable else some


def rows(name: str) -> st.SearchStrategy[list[Any]]:
    fields = {c.name: values(c) for c in columns(FACTS[name])} | {OWNER[name]: st.just("pacs")}
    return st.lists(
        st.fixed_dictionaries(fields).map(lambda row: msgspec.convert(row, FACTS[name])), max_size=5
    )


TABLES = st.fixed_dictionaries({}, optional={name: rows(name) for name in FACTS})


@given(TABLES)
def test_whatever_goes_in_comes_out(tables: dict[str, list[Any]]) -> None:
    batch = check_batch(pack_batch(agent="pacs", boot="00c0ffee", batch=0, tables=tables))
    assert {name: unpack_rows(name, block) for name, block in batch.tables.items()} == tables


@given(TABLES, st.data())
def test_damage_is_a_batch_error_or_harmless(tables: dict[str, list[Any]], data: st.DataObject) -> None:
    body = bytearray(pack_batch(agent="pacs", boot="00c0ffee", batch=0, tables=tables))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BatchError):  # the only error there is
        check_batch(bytes(body))


@given(st.lists(st.integers(-2, 2**62), max_size=6), st.lists(st.integers(-1, 4), min_size=3, max_size=3))
def test_a_hostile_column_of_lists_is_a_batch_error_or_a_histogram(items: list[int], at: list[int]) -> None:
    flow = Flow(tenant="default", agent="pacs", window_us=0, window_length_us=1)
    batch = msgspec.msgpack.decode(
        pack_batch(agent="pacs", boot="00c0ffee", batch=0, tables={"flows": [flow, flow]})
    )
    hostile = {"data": array("q", items).tobytes(), "offsets": array("i", at).tobytes()}
    batch["tables"]["flows"]["columns"]["srtt_histogram"] = hostile
    try:
        taken = check_batch(msgspec.msgpack.encode(batch))
    except BatchError:
        return
    rows = unpack_rows("flows", taken.tables["flows"])
    assert [row.srtt_histogram for row in rows] == [tuple(items[a:b]) for a, b in pairwise(at)]
    assert not any(fault(row.srtt_histogram) for row in rows)


@given(st.binary(max_size=300))
def test_noise_is_a_batch_error(noise: bytes) -> None:
    try:
        check_batch(noise)
    except BatchError:
        return
    raise AssertionError("noise was taken for a batch")
