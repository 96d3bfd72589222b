"""Batches from outside: what is taken, what is refused, and with which words."""

from array import array
from typing import Any

import msgspec
import pytest

from analytics.batch import (
    SCHEMA_VERSION,
    RightColumns,
    check_batch,
    lacking,
    none_known,
    pack_batch,
    row_fault,
    unpack_rows,
)
from analytics.errors import BatchError, SchemaVersionError
from analytics.measurement import FACTS, Flow, Hop, Reading, Receipt, Rung
from analytics.store.glance import right_columns


def reading(**changes: Any) -> Reading:
    base = Reading(
        tenant="default",
        cycle=1,
        test="t1",
        src="pacs",
        dst="home",
        started_us=10,
        ended_us=20,
        rung=Rung.SRFLX,
        sent=300,
        received=299,
        rtt_p50_us=21_000,
    )
    return msgspec.structs.replace(base, **changes)


def packed(*rows: Reading) -> bytes:
    return pack_batch(agent="pacs", boot="00c0ffee", batch=7, tables={"readings": rows})


def altered(change: Any) -> bytes:
    """Return a good batch with one thing changed by ``change(batch)``."""
    batch = msgspec.msgpack.decode(packed(reading(), reading(test="t2")))
    change(batch)
    return msgspec.msgpack.encode(batch)


def test_rows_come_back_as_they_went() -> None:
    rows = [reading(), reading(test="t2", rtt_p50_us=None, error="söme text")]
    batch = check_batch(packed(*rows))
    assert (batch.agent, batch.boot, batch.batch) == ("pacs", "00c0ffee", 7)
    assert unpack_rows("readings", batch.tables["readings"]) == rows


def test_all_tables_fit_in_one_batch() -> None:
    hop = Hop(tenant="default", cycle=1, test="t1", src="pacs", dst="home", ttl=3, address="198.51.100.1")
    flow = Flow(tenant="default", agent="pacs", window_us=5, window_length_us=10_000_000, process="Orthanc")
    key: dict[str, Any] = {"tenant": "default", "cycle": 1, "test": "t1", "src": "pacs", "dst": "home"}
    receipt = Receipt(**key, layout=3, signed_us=5, src_key="ed25519:", src_signature="x", why_not="y")
    body = pack_batch(
        agent="pacs",
        boot="00c0ffee",
        batch=1,
        tables={"readings": [reading()], "hops": [hop], "flows": [flow], "receipts": [receipt]},
    )
    tables = check_batch(body).tables
    assert {name: unpack_rows(name, block) for name, block in tables.items()} == {
        "readings": [reading()],
        "hops": [hop],
        "flows": [flow],
        "receipts": [receipt],
    }
    assert set(tables) == set(FACTS)


def test_an_unknown_schema_version_says_who_must_be_upgraded() -> None:
    body = altered(lambda batch: batch.update(schema=SCHEMA_VERSION + 1))
    told = f"batch schema {SCHEMA_VERSION + 1}; this server knows {SCHEMA_VERSION}"
    with pytest.raises(SchemaVersionError, match=told) as caught:
        check_batch(body)
    assert caught.value.remedy.startswith("upgrade the server")


def column(batch: dict[str, Any], name: str) -> dict[str, Any]:
    return batch["tables"]["readings"]["columns"][name]  # type: ignore[no-any-return]  # plain msgpack


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b.pop("agent"), "agent"),
        (lambda b: b.update(agent="No Name"), "matching regex"),
        (lambda b: b.update(agent="pacs\n"), "matching regex"),
        (lambda b: b.update(boot="00c0ffee\n"), "matching regex"),
        (lambda b: b["tables"].update(secrets=b["tables"]["readings"]), "unknown table 'secrets'"),
        (lambda b: b["tables"]["readings"]["columns"].pop("sent"), "columns differ: sent"),
        (lambda b: b["tables"]["readings"].update(rows=3), "bytes for 3 integers|offsets that do not fit 3"),
        (lambda b: b["tables"]["readings"].update(rows=10**9), "rows"),
        (lambda b: column(b, "sent").update(data=b"\0" * 15), "15 bytes for 2 integers"),
        (lambda b: column(b, "sent").update(data=b"\xff" * 16), "readings.sent: outside 0"),
        (lambda b: column(b, "rung").update(data=b"srflxspace"), "readings.rung: not one of lan"),
        (lambda b: column(b, "dst").update(data=b"homeHOME"), "readings.dst: not a name"),
        (lambda b: column(b, "dst").update(data=b"homehom\n"), "readings.dst: not a name"),
        (lambda b: column(b, "dst").update(data=b"\xff\xfe\xff\xfehome"), "not UTF-8"),
        (lambda b: column(b, "dst").update(offsets=b"\0" * 12), "offsets that do not fit the data"),
        (lambda b: column(b, "sent").update(valid=b"\3"), "a validity map that does not fit"),
        (lambda b: column(b, "src").update(data=b"homehome"), "rows that are not pacs's"),
        (lambda b: column(b, "rtt_p50_us").update(valid=b""), "a validity map that does not fit"),
    ],
)
@pytest.mark.parametrize("right", [none_known, right_columns])
def test_a_bad_batch_gets_one_clear_error(change: Any, words: str, right: RightColumns) -> None:
    with pytest.raises(BatchError, match=words):
        check_batch(altered(change), right)


@pytest.mark.parametrize(
    ("items", "offsets", "words"),
    [
        ([5, 1], [0, 2], ""),
        ([], [0, 0], ""),
        ([5, 1, 6], [0, 3], "a bucket without its count"),
        ([6, 1, 5, 1], [0, 4], "buckets that do not rise"),
        ([960, 1], [0, 2], "buckets outside 0..959"),
        ([5, 0], [0, 2], "counts outside"),
        ([5, -1], [0, 2], "counts outside"),
        ([5, 1], [0, 4], "offsets that do not fit the data"),
        ([5, 1], [0, 1], "offsets that do not fit the data"),
        ([5, 1], [2, 2], "offsets that do not fit the data"),
        ([5, 1], [0, -2], "offsets that do not fit the data"),
        ([5, 1], [0, 2, 2], "offsets that do not fit 1 rows"),
        ([part for number in range(961) for part in (number, 1)], [0, 1922], "more than 1920 integers"),
    ],
)
def test_a_column_of_histograms_is_checked(items: list[int], offsets: list[int], words: str) -> None:
    flow = Flow(tenant="default", agent="pacs", window_us=5, window_length_us=10)
    body = pack_batch(agent="pacs", boot="00c0ffee", batch=1, tables={"flows": [flow]})
    batch = msgspec.msgpack.decode(body)
    block = {"data": array("q", items).tobytes(), "offsets": array("i", offsets).tobytes()}
    batch["tables"]["flows"]["columns"]["srtt_histogram"] = block
    if words:
        with pytest.raises(BatchError, match=words):
            check_batch(msgspec.msgpack.encode(batch))
    else:
        check_batch(msgspec.msgpack.encode(batch))


def test_data_that_is_no_whole_number_of_integers_is_refused() -> None:
    flow = Flow(tenant="default", agent="pacs", window_us=5, window_length_us=10)
    batch = msgspec.msgpack.decode(
        pack_batch(agent="pacs", boot="00c0ffee", batch=1, tables={"flows": [flow]})
    )
    block = {"data": b"\0" * 15, "offsets": array("i", [0, 1]).tobytes()}
    batch["tables"]["flows"]["columns"]["srtt_histogram"] = block
    with pytest.raises(BatchError, match="offsets that do not fit the data"):
        check_batch(msgspec.msgpack.encode(batch))


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ((40, 2), ""),
        ([40, 2], "flows.srtt_histogram: list, not ints"),
        ((40, 2.0), "flows.srtt_histogram: tuple, not ints"),
        ((40,), "flows.srtt_histogram: a bucket without its count"),
        ((40, 2**63), "flows.srtt_histogram: counts outside"),
    ],
)
def test_a_histogram_is_checked_before_it_is_packed(told: Any, fault: str) -> None:
    flow = Flow(tenant="default", agent="pacs", window_us=5, window_length_us=10, srtt_histogram=told)
    found = row_fault("flows", flow, "pacs")
    assert found.startswith(fault) if fault else not found


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x81", b"[]", b"\x93\1\2\3", b"\x91" * 5000])
def test_bytes_that_are_no_batch_are_refused(body: bytes) -> None:
    with pytest.raises(BatchError):
        check_batch(body)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, ""),
        ({"rtt_p50_us": None}, ""),
        ({"ipdv_us": 3_600_000_001}, "readings.ipdv_us: outside 0..3600000000"),
        ({"rtt_p50_us": 0.5}, "readings.rtt_p50_us: float, not int"),
        ({"sent": None}, "readings.sent: missing"),
        ({"dst": "HOME"}, "readings.dst: not a name"),
        ({"rung": "space"}, "readings.rung: not one of lan, "),
        ({"error": "x" * 501}, "readings.error: longer than 500 characters"),
        ({"error": "\udcff"}, "readings.error: not UTF-8"),
        ({"src": "home"}, "readings.src: not pacs's"),
    ],
)
def test_a_row_is_checked_as_its_batch_would_be(changes: dict[str, Any], fault: str) -> None:
    row = reading(**changes)
    found = row_fault("readings", row, "pacs")
    assert found.startswith(fault) if fault else not found
    if not fault:
        check_batch(packed(row))


def test_a_batch_of_an_earlier_schema_says_nothing_of_what_came_later() -> None:
    """Those of before hops told more than times."""
    hop = Hop(tenant="default", cycle=1, test="t1", src="pacs", dst="home", ttl=3)
    told = reading(route_id="f8de48ce6fb5", path_mtu=1400, mtu_black_hole=1)
    body = pack_batch(agent="pacs", boot="00c0ffee", batch=1, tables={"readings": [told], "hops": [hop]})
    batch = msgspec.msgpack.decode(body)
    batch["schema"] = 2
    for name, block in batch["tables"].items():
        for later in lacking(name, 2):
            del block["columns"][later]
    tables = check_batch(msgspec.msgpack.encode(batch)).tables
    assert unpack_rows("readings", tables["readings"]) == [reading()]
    assert unpack_rows("hops", tables["hops"]) == [hop]
