"""What the crash bench has the store do, and how it looks whether everything is there, once.

``python crash_load.py FOLDER FIRST START_US`` does it in a process of its own, to be killed: it prints each
batch that was acknowledged. An hour passes in a second, so rollups and compaction are always under way.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from analytics.batch import check_batch, pack_batch
from analytics.measurement import Flow, Hop, Reading, Rung
from analytics.rollup import Level
from analytics.store.store import Store
from analytics.store.tidy import Keep

AT_US: Final = 1_795_464_000_000_000
HOUR_US: Final = 3_600_000_000
TENANTS: Final = ("default", "other")
SENDERS: Final = tuple(f"{tenant}/agent-{n}" for n in range(4) for tenant in TENANTS)
"""Agents of two tenants, which have the same names."""
BOOT: Final = "00c0ffee"
ROWS: Final = 3  # of each table in a batch

FOR_EVER: Final = Keep(
    **dict.fromkeys(("readings", "hops", "flows", "readings_5m", "readings_1h", "readings_1d"), 20_000)
)
"""Or rows that were let go of would count as lost."""

Key = tuple[str, int]
"""Sender and batch."""


def body(sender: str, number: int) -> bytes:
    """Make a batch whose rows name it."""
    tenant, agent = sender.split("/")
    test, at = f"{sender}.{number}", AT_US + number
    readings = [
        Reading(
            tenant=tenant,
            cycle=at // 1_000_000,
            test=test,
            src=agent,
            dst=f"peer-{n}",
            started_us=at,
            ended_us=at,
            rung=Rung.LAN,
            rtt_min_us=900,
            rtt_p50_us=1_000 + n,
        )
        for n in range(ROWS)
    ]
    hops = [
        Hop(tenant=tenant, cycle=at // 1_000_000, test=test, src=agent, dst="peer-0", ttl=n + 1)
        for n in range(ROWS)
    ]
    flows = [
        Flow(tenant=tenant, agent=agent, window_us=at, window_length_us=1, process=test, pid=n)
        for n in range(ROWS)
    ]
    return pack_batch(
        agent=agent, boot=BOOT, batch=number, tables={"readings": readings, "hops": hops, "flows": flows}
    )


async def send(store: Store, key: Key) -> bool:
    """Send a batch; True where it is new."""
    sent = body(*key)
    return await store.append(check_batch(sent), sent, key[0].split("/")[0])


class Found(NamedTuple):
    """What a data folder was found to hold."""

    lost: int  # rows acknowledged and not there
    duplicated: int  # rows there more than once
    not_rolled_up: int  # readings that are missing in a rollup, or counted twice
    failures: int  # steps of the upkeep that failed
    strayed: int  # files with rows of another tenant than their folder's


def look(folder: Path, acknowledged: Collection[Key], again: Collection[Key], now_us: int) -> Found:
    """Open what a crash left, send some of it again, and count: each row once, in each table and rollup."""
    with closing(Store.open(folder, clock_us=lambda: now_us, keep=FOR_EVER)) as store:
        new = asyncio.run(_resend(store, again))
        store.seal()
        store.upkeep()
        failures = store.health().upkeep_failures
    counted = {table: _counted(folder, table, column) for table, column in _NAMED.items()}
    readings = sum(counted["readings"].values())
    return Found(
        lost=ROWS * new
        + sum(
            max(0, ROWS - counts.get(_name(key), 0)) for counts in counted.values() for key in acknowledged
        ),
        duplicated=sum(max(0, n - ROWS) for counts in counted.values() for n in counts.values()),
        not_rolled_up=sum(abs(readings - _rolled(folder, level)) for level in Level),
        failures=failures,
        strayed=sum(_strays(path) for path in folder.rglob("tenant=*/**/*.parquet")),
    )


_NAMED: Final = {"readings": "test", "hops": "test", "flows": "process"}
"""The column that names the batch."""


async def _resend(store: Store, keys: Iterable[Key]) -> int:
    return sum(await asyncio.gather(*(send(store, key) for key in keys)))


def _name(key: Key) -> str:
    return f"{key[0]}.{key[1]}"


def _counted(folder: Path, table: str, column: str) -> dict[str, int]:
    files = [str(path) for path in (folder / "parquet").glob(f"tenant=*/{table}/*/*.parquet")]
    if not files:
        return {}
    question = f"SELECT {column}, count(*) FROM read_parquet($1, hive_partitioning = false) GROUP BY ALL"
    return dict(duckdb.execute(question, [files]).fetchall())


def _rolled(folder: Path, level: Level) -> int:
    files = [str(path) for path in (folder / "rollup").glob(f"tenant=*/{level}/*/*.parquet")]
    if not files:
        return 0
    question = "SELECT sum(tests)::BIGINT FROM read_parquet($1, hive_partitioning = false)"
    (total,) = duckdb.execute(question, [files]).fetchone() or (0,)
    return total or 0


def _strays(path: Path) -> bool:
    question = "SELECT DISTINCT tenant FROM read_parquet($1, hive_partitioning = false)"
    found = duckdb.execute(question, [str(path)]).fetchall()
    return any(f"tenant={tenant}" not in path.parts for (tenant,) in found)


def running_clock(start_us: int) -> Callable[[], int]:
    """An hour passes in a second."""
    began = time.monotonic()
    return lambda: start_us + int((time.monotonic() - began) * HOUR_US)


async def _run(folder: Path, first: int, start_us: int) -> None:
    store = Store.open(folder, clock_us=running_clock(start_us), keep=FOR_EVER)
    for work in (store.seal, store.upkeep):
        threading.Thread(target=_forever, args=(work,), daemon=True).start()
    await asyncio.gather(*(_send_on(store, sender, first) for sender in SENDERS))


async def _send_on(store: Store, sender: str, number: int) -> None:
    while True:
        await send(store, (sender, number))
        print(sender, number, flush=True)
        number += 1


def _forever(work: Callable[[], None]) -> None:
    while True:
        work()
        time.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
