"""What is checked by whole columns is taken or refused exactly as what is checked value by value."""

from __future__ import annotations

from array import array
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from analytics.batch import COLUMNS, Batch, RightColumns, check_batch, none_known, pack_batch
from analytics.errors import BatchError
from analytics.measurement import Column, Flow, Hop, Reading, Rung
from analytics.store.columns import SCHEMAS, tables_of
from analytics.store.glance import right_columns
from tests.property.test_batch_codec import TABLES

ROWS = {
    "readings": Reading(
        tenant="default", cycle=1, test="t", src="pacs", dst="home", started_us=1, ended_us=2, rung=Rung.LAN
    ),
    "hops": Hop(tenant="default", cycle=1, test="t", src="pacs", dst="home", ttl=1, address="10.0.0.1"),
    "flows": Flow(tenant="default", agent="pacs", window_us=1, window_length_us=1),
}


def outcome(body: bytes, right: RightColumns) -> Batch | str:
    try:
        return check_batch(body, right)
    except BatchError as error:
        return str(error)


def same_either_way(body: bytes) -> Batch | str:
    strict = outcome(body, none_known)
    assert outcome(body, right_columns) == strict
    return strict


@given(TABLES, st.data())
def test_any_damage_is_met_alike(tables: dict[str, list[Any]], data: st.DataObject) -> None:
    body = bytearray(pack_batch(agent="pacs", boot="00c0ffee", batch=0, tables=tables))
    assert not isinstance(same_either_way(bytes(body)), str)
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    same_either_way(bytes(body))


def edges(column: Column) -> list[int]:
    least, greatest = column.ge or 0, column.le or 0
    return [least - 1, least, greatest, min(greatest + 1, 2**63 - 1), -(2**63), 2**63 - 1]


def integers(column: Column) -> st.SearchStrategy[dict[str, Any]]:
    values = st.lists(st.sampled_from(edges(column)), min_size=2, max_size=2)
    data = values.map(lambda two: array("q", two).tobytes()) | st.binary(max_size=24)
    return blocks(data, st.none() | st.just(b"\0" * 12))


TEXTS = st.sampled_from(
    ["pacs", "home", "HOME", "lan", "srflx", "none", "ipv6", "a\n", "", "x" * 63, "x" * 64, "x" * 256, "é"]
)


def texts(column: Column) -> st.SearchStrategy[dict[str, Any]]:
    fitting = st.tuples(TEXTS | st.sampled_from(column.choices or ("",)), TEXTS).map(laid_out)
    hostile = st.lists(st.integers(-2, 9), min_size=3, max_size=3).map(lambda at: array("i", at).tobytes())
    return fitting | blocks(st.binary(max_size=9), st.none() | hostile | st.binary(max_size=13))


def laid_out(two: tuple[str, str]) -> dict[str, Any]:
    first, second = (text.encode() for text in two)
    at = [0, len(first), len(first) + len(second)]
    return {"data": first + second, "offsets": array("i", at).tobytes()}


def blocks(data: st.SearchStrategy[bytes], offsets: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    valid = st.none() | st.binary(max_size=2)
    return st.fixed_dictionaries({"data": data, "offsets": offsets, "valid": valid})


@given(st.sampled_from(sorted(ROWS)), st.data())
def test_hostile_columns_are_met_alike(name: str, data: st.DataObject) -> None:
    two = {name: [ROWS[name], ROWS[name]]}
    batch = msgspec.msgpack.decode(pack_batch(agent="pacs", boot="00c0ffee", batch=0, tables=two))
    some = [column for column in COLUMNS[name] if column.kind != "ints"]
    for column in data.draw(st.lists(st.sampled_from(some), min_size=1, max_size=2)):
        block = data.draw(integers(column) if column.kind == "int" else texts(column), label=column.name)
        batch["tables"][name]["columns"][column.name] = block
    taken = same_either_way(msgspec.msgpack.encode(batch))
    if not isinstance(taken, str):  # what was taken can be kept: it is never refused later
        kept = tables_of(taken, tenant="default", received_us=1)[name]
        kept.validate(full=True)
        assert kept.schema == SCHEMAS[name]
