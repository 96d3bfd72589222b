"""``saved/folder-1.tar.xz``: a data folder whose files held the rows of all tenants, and what is in it.

Written by the code of then (commit f460a34): ``python -m tests.unit.analytics.old_folder DATA``, and packed
with ``tar -cJ``. Two tenants, whose agents have the same names; a day that is compacted and rolled up, a day
with two segments, and what waits in the spool.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb

from analytics.clock import DAY_US, HOUR_US
from analytics.store.store import Store
from tests.unit.analytics.facts import AT_US, body, flow, hop, put, reading

SAVED: Final = Path(__file__).parent / "saved" / "folder-1.tar.xz"
TENANTS: Final = ("default", "other")
NOW_US: Final = AT_US + DAY_US + 2 * HOUR_US
BATCHES: Final = 6
"""Of each tenant; the last one waits in the spool."""
NAMED = {"readings": "test", "hops": "test", "flows": "process"}
"""The column that names the batch."""
EACH = Counter({f"{tenant}.{number}": 2 for tenant in TENANTS for number in range(BATCHES)})
EACH_FLOW = Counter(dict.fromkeys(EACH, 1))


def unpacked(folder: Path) -> Path:
    """Lay the folder out."""
    shutil.unpack_archive(SAVED, folder)
    return folder / "data"


def rows(tenant: str, number: int) -> dict[str, list[Any]]:
    """What a batch of a tenant brought."""
    ended_us = AT_US + number * HOUR_US // 2
    test = f"{tenant}.{number}"
    return {
        "readings": [
            reading(tenant=tenant, dst=dst, test=test, cycle=AT_US // 10**6 + number, ended_us=ended_us)
            for dst in ("home", "clinic")
        ],
        "hops": [hop(ttl, "10.0.0.1", 300, tenant=tenant, test=test) for ttl in (1, 2)],
        "flows": [flow(tenant=tenant, process=test, window_us=AT_US + number)],
    }


@contextmanager
def opened(folder: Path, at_us: int = NOW_US) -> Iterator[Store]:
    with closing(Store.open(folder, clock_us=lambda: at_us)) as store:
        yield store


def old_files(folder: Path) -> list[Path]:
    return [path for root in ("parquet", "rollup") for path in (folder / root).glob("*/date=*/*.parquet")]


def in_files(folder: Path, table: str) -> Counter[str]:
    """Rows of each batch in a table's files, each of which must be of its folder's tenant only."""
    found: Counter[str] = Counter()
    for path in folder.glob(f"parquet/tenant=*/{table}/date=*/*.parquet"):
        asked = f"SELECT tenant, {NAMED[table]} FROM read_parquet('{path}', hive_partitioning = false)"
        told = duckdb.sql(asked).fetchall()
        assert {f"tenant={tenant}" for tenant, _ in told} == {path.relative_to(folder).parts[1]}
        found.update(batch for _, batch in told)
    return found


def check(folder: Path) -> None:
    """Open a folder: every row is there once, its tenant's alone, and a batch of then is known."""
    with opened(folder) as store:
        assert store.health().files_set_aside == 0
        assert old_files(folder) == []
        for tenant in TENANTS:
            assert put(
                store, *(body("pacs", n, **rows(tenant, n)) for n in range(BATCHES)), tenant=tenant
            ) == ([False] * BATCHES)
            told = store.flows(tenant)
            assert sorted(one.process for one in told) == [f"{tenant}.{n}" for n in range(BATCHES)]
            assert {one.tenant for one in store.readings_latest(tenant)} == {tenant}
        store.seal()
        store.upkeep()
        assert store.health().upkeep_failures == 0
    assert {table: in_files(folder, table) for table in NAMED} == {
        "readings": EACH,
        "hops": EACH,
        "flows": EACH_FLOW,
    }


def _write(folder: Path) -> None:
    now = [AT_US]
    with closing(Store.open(folder, clock_us=lambda: now[0])) as store:
        for number in range(BATCHES):
            if number == BATCHES // 2:
                now[0] = AT_US + DAY_US
                store.upkeep()
            for tenant in TENANTS:
                put(store, body("pacs", number, **rows(tenant, number)), tenant=tenant)
            if number < BATCHES - 1:
                store.seal()
            now[0] += HOUR_US // 2


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
