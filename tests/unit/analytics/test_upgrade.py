"""What version 0.1 wrote is read as if it had been written today. ``saved/`` was written by its code."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from analytics.batch import ADDED, COLUMNS, OLDEST_SCHEMA, SCHEMA_VERSION, check_batch, lacking, unpack_rows
from analytics.store.seal import MANY_FILES
from analytics.store.store import Store
from tests.unit.analytics.facts import AT_US, body, flow, hop, put, reading

SAVED = Path(__file__).parent / "saved"
OLD_BATCH = (SAVED / "batch-schema-1.msgpack").read_bytes()
OLD = [
    flow(
        pid=877,
        opened=2,
        closed=1,
        bytes_sent=52_600_000,
        segments_sent=36_000,
        segments_retransmitted=120,
        srtt_us=49_000,
        rtt_min_us=48_000,
    ),
    flow(process="curl", remote_address="198.51.100.66", service_port=443),
]
NEW = flow("home", uid=1000, failed=3, srtt_histogram=(40, 2, 41, 1), unit="orthanc.service")


def with_old_file(folder: Path) -> None:
    path = folder / "parquet/flows/date=2026-11-23/0000000001.parquet"
    path.parent.mkdir(parents=True)
    shutil.copy(SAVED / "flows-schema-1.parquet", path)


def test_a_batch_that_waited_through_the_upgrade_is_taken() -> None:
    batch = check_batch(OLD_BATCH)
    assert batch.schema == SCHEMA_VERSION
    assert unpack_rows("flows", batch.tables["flows"]) == OLD


def test_it_is_kept_as_any_other(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path, clock_us=lambda: AT_US)) as store:
        assert put(store, OLD_BATCH, OLD_BATCH) == [True, False]
    with closing(Store.open(tmp_path, clock_us=lambda: AT_US)) as store:  # from the spool
        assert store.flows("default") == OLD
        store.seal()
        assert store.flows("default") == OLD


def test_an_old_file_is_read_with_the_defaults(tmp_path: Path) -> None:
    with_old_file(tmp_path)
    with closing(Store.open(tmp_path, clock_us=lambda: AT_US)) as store:
        assert store.health().files_set_aside == 0
        assert store.flows("default") == OLD
        put(store, body("home", 1, flows=[NEW]))
        assert store.flows("default") == [NEW, *OLD]
        store.seal()
        assert store.flows("default") == [NEW, *OLD]


def test_an_old_file_is_merged_with_new_ones(tmp_path: Path) -> None:
    with_old_file(tmp_path)
    with closing(Store.open(tmp_path, clock_us=lambda: AT_US)) as store:
        for number in range(MANY_FILES):
            put(store, body("home", number, flows=[NEW]))
            store.seal()
        assert len(list((tmp_path / "parquet/tenant=default/flows").rglob("*.parquet"))) < MANY_FILES
        assert store.flows("default") == [NEW] * MANY_FILES + OLD


def test_hops_and_readings_of_before_are_read_with_the_defaults(tmp_path: Path) -> None:
    one, step = (
        reading(path_mtu=1400, route_id="f8de48ce6fb5"),
        hop(1, "192.168.1.1", 900, mpls="16004/0/1/1"),
    )
    with closing(Store.open(tmp_path, clock_us=lambda: AT_US)) as store:
        put(store, body("pacs", 1, readings=[one], hops=[step]))
        store.seal()
    for table in ("readings", "hops"):
        (path,) = (tmp_path / "parquet/tenant=default" / table).rglob("*.parquet")
        file = pq.read_table(path, partitioning=None)
        pq.write_table(file.drop_columns(sorted(lacking(table, 2))), path)
    with closing(Store.open(tmp_path, clock_us=lambda: AT_US)) as store:
        assert store.hops_of("default", [one.test]) == [msgspec.structs.replace(step, mpls="")]
        assert store.readings_latest("default") == [msgspec.structs.replace(one, path_mtu=None, route_id="")]


@pytest.mark.parametrize("schema", range(OLDEST_SCHEMA + 1, SCHEMA_VERSION + 1))
def test_every_column_that_came_later_has_something_to_say_of_older_rows(schema: int) -> None:
    for table, added in ADDED[schema].items():
        by_name = {column.name: column for column in COLUMNS[table]}
        assert added <= set(by_name)
        assert [name for name in added if by_name[name].default is None and not by_name[name].nullable] == []
