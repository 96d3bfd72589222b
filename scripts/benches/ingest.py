"""READ FIRST: how many rows a second become durable, beside an fsync for each batch, SQLite and DuckDB.

A cycle of a thousand agents: 1,000 batches of 999 readings, from 50 senders at once, each of which waits
for its answer before it sends the next. The product's own way: the batch is decoded and every value
checked in a thread (``check_batch``), appended to the store (``Store.append``), and answered when it is
on the disk. The network is left out. The peers are given the same batches, checked the same way, by as
many senders; all of them answer when the rows are durable.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import duckdb

from analytics.batch import Batch, check_batch, pack_batch, unpack_rows
from analytics.measurement import CapacityTrust, Reading, Rung, StampSource
from analytics.store.columns import tables_of
from analytics.store.glance import right_columns
from analytics.store.spool import Packed, pack_body
from analytics.store.store import Store
from benches.bench import Bench, Report, Say, nothing_needed
from benches.figures import Cell, Figure, Target, number

COLUMN: Final = "pathgrade"
SENDERS: Final = 50
CHECKING: Final = min(4, os.cpu_count() or 1)  # as server/ingest.py
ROWS: Final = 999
BATCHES, QUICK_BATCHES = 1_000, 60
PEER_BATCHES: Final = {"fsync": 300, "duckdb": 150, "sqlite": 100}
ROUNDS: Final = 3
TENANT: Final = "default"
START_S: Final = 1_795_464_000
FIRST_BATCH: Final = 1 << 20
"""Batch numbers are written in as many bytes, whichever it is: so one body serves for all."""

Durable = Callable[[Batch, Any], Awaitable[None]]
"""Keep one checked batch; returns when it is on the disk."""
Opened = tuple[Batch, bytes | Packed]


class Rate(NamedTuple):
    """What came of one round."""

    rows_per_s: float
    p50_ms: float
    p99_ms: float


def reading(draw: random.Random, src: str, dst: str) -> Reading:
    """One as an agent sends it."""
    least = draw.randint(500, 80_000)
    return Reading(
        tenant=TENANT,
        cycle=START_S,
        test=f"{draw.getrandbits(64):016x}",
        src=src,
        dst=dst,
        started_us=START_S * 1_000_000 + draw.randint(0, 200_000_000),
        ended_us=START_S * 1_000_000 + draw.randint(200_000_000, 230_000_000),
        rung=draw.choice((Rung.LAN, Rung.SRFLX)),
        local_candidate=f"host 10.0.{draw.randrange(256)}.{draw.randrange(256)} {draw.randint(1024, 65535)}",
        remote_candidate=f"srflx 203.0.113.{draw.randrange(256)} {draw.randint(1024, 65535)}",
        connect_us=3 * least,
        sent=300,
        received=300 - draw.choice((0, 0, 0, 1)),
        rtt_n=300,
        rtt_min_us=least,
        rtt_p10_us=least + 10,
        rtt_p25_us=least + 25,
        rtt_p50_us=least + draw.randint(50, 200),
        rtt_p75_us=least + 400,
        rtt_p90_us=least + 900,
        rtt_p95_us=least + 1_500,
        rtt_p99_us=least + draw.randint(2_000, 9_000),
        ipdv_us=draw.randint(1, 2_000),
        capacity_kbps=draw.randint(1_000, 900_000),
        capacity_trust=CapacityTrust.MEASURED,
        stamps=StampSource.KERNEL,
    )


def bodies(count: int) -> list[tuple[bytes, int]]:
    """Batches of the first agents, and where each body has its number."""
    draw, found = random.Random(20261125), []
    for agent in range(count):
        src = f"agent-{agent:04d}"
        rows = [reading(draw, src, f"agent-{dst:04d}") for dst in range(ROWS + 1) if dst != agent]
        body = pack_batch(agent=src, boot="0123456789abcdef", batch=FIRST_BATCH, tables={"readings": rows})
        found.append((body, body.index(struct.pack(">BI", 0xCE, FIRST_BATCH)) + 1))
    return found


def numbered(body: bytes, at: int, batch: int) -> bytes:
    """The body under another number: to a store, another batch."""
    return body[:at] + struct.pack(">I", batch) + body[at + 4 :]


def checked(body: bytes) -> tuple[Batch, bytes]:
    """What a batch takes before it is kept."""
    return check_batch(body, right_columns), body


def checked_and_packed(body: bytes) -> tuple[Batch, Packed]:
    """What the product does before it keeps a batch (``server/ingest.py``)."""
    return check_batch(body, right_columns), pack_body(body)


async def send(
    told: list[tuple[bytes, int]], batches: int, keep: Durable, opened: Callable[[bytes], Opened]
) -> Rate:
    """Have all senders send, and see how long each waits."""
    numbers, waited = iter(range(FIRST_BATCH, FIRST_BATCH + batches)), list[float]()
    loop, checking = asyncio.get_running_loop(), asyncio.Semaphore(CHECKING)

    async def sender() -> None:
        for batch in numbers:
            body = numbered(*told[batch % len(told)], batch)
            began = time.perf_counter()
            async with checking:
                ready = await loop.run_in_executor(None, opened, body)
            await keep(*ready)
            waited.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(SENDERS)))
    seconds = time.perf_counter() - began
    ordered = sorted(waited)
    return Rate(
        batches * ROWS / seconds, 1000 * median(ordered), 1000 * ordered[int(0.99 * (len(ordered) - 1))]
    )


@contextmanager
def to_store(folder: Path) -> Iterator[Durable]:
    """The product."""
    with closing(Store.open(folder)) as store:

        async def keep(batch: Batch, body: bytes | Packed) -> None:
            assert await store.append(batch, body, TENANT)

        yield keep
        assert store.counts()["readings"] == store.health().unsealed_rows


@contextmanager
def to_files(folder: Path) -> Iterator[Durable]:
    """One file for all, an fsync for each batch."""
    folder.mkdir()
    descriptor, lock = os.open(folder / "spool", os.O_WRONLY | os.O_CREAT | os.O_APPEND), threading.Lock()

    def write(body: bytes) -> None:
        with lock:
            os.write(descriptor, body)
            os.fdatasync(descriptor)

    yield lambda batch, body: asyncio.to_thread(write, body)
    os.close(descriptor)


@contextmanager
def to_duckdb(folder: Path) -> Iterator[Durable]:
    """A table of a DuckDB file; a transaction for each batch, from Arrow."""
    folder.mkdir()
    with duckdb.connect(str(folder / "facts.duckdb"), config={"threads": 2}) as database:
        lock, made = threading.Lock(), list[str]()

        def insert(batch: Batch) -> None:
            rows = tables_of(batch, tenant=TENANT, received_us=1)["readings"]
            with lock, database.cursor() as cursor:
                cursor.register("arrived", rows)
                if not made:
                    cursor.execute("CREATE TABLE facts AS SELECT * FROM arrived LIMIT 0")
                    made.append("facts")
                cursor.execute("INSERT INTO facts SELECT * FROM arrived")

        yield lambda batch, body: asyncio.to_thread(insert, batch)


@contextmanager
def to_sqlite(folder: Path) -> Iterator[Durable]:
    """A table of an SQLite file in WAL mode, synchronous=FULL; a transaction for each batch."""
    folder.mkdir()
    database = sqlite3.connect(folder / "facts.sqlite", check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    names = Reading.__struct_fields__
    database.execute(f"CREATE TABLE facts ({', '.join(names)})")
    lock = threading.Lock()

    def insert(batch: Batch) -> None:
        rows = unpack_rows("readings", batch.tables["readings"])
        with lock:
            database.execute("BEGIN")
            database.executemany(
                f"INSERT INTO facts VALUES ({', '.join('?' * len(names))})",
                ([getattr(row, name) for name in names] for row in rows),
            )
            database.execute("COMMIT")

    with closing(database):
        yield lambda batch, body: asyncio.to_thread(insert, batch)


PEERS: Final = {"fsync": to_files, "duckdb": to_duckdb, "sqlite": to_sqlite}
FIGURES: Final = (
    Figure("rows_per_s", "rows a second, durable", number(0, ""), Target(400_000, at_least=True)),
    Figure("p50_ms", "a batch waits for its answer: median", number(0, "ms")),
    Figure("p99_ms", "  one in a hundred", number(0, "ms")),
    Figure("times", "times as many rows as it: pathgrade", number(1, "x")),
)


def measure(quick: bool, folder: Path, say: Say) -> Report:
    """The product and the peers in turn, round after round: what drifts is the same for all."""
    batches, rounds = (QUICK_BATCHES, 1) if quick else (BATCHES, ROUNDS)
    counts = {name: min(batches, PEER_BATCHES.get(name, batches)) for name in (COLUMN, *PEERS)}
    say("Making batches ...")
    told = bodies(SENDERS)
    found: dict[str, list[Rate]] = {COLUMN: [], **{name: [] for name in PEERS}}
    for turn in range(rounds):
        say(f"Round {turn + 1} of {rounds} ...")
        for name, keeper in {COLUMN: to_store, **PEERS}.items():
            found[name].append(_one(keeper, folder / f"{name}-{turn}", told, counts[name]))
    cells = {name: _cells(rates, found[COLUMN]) for name, rates in found.items()}
    size = len(told[0][0])
    details = [
        f"{SENDERS} senders, {ROWS} readings a batch ({size / ROWS:.0f} bytes a row), median of {rounds}.",
        f"Batches: {', '.join(f'{name} {count}' for name, count in counts.items())}.",
    ]
    return Report(
        cells, details, {"rounds": {name: [r._asdict() for r in rates] for name, rates in found.items()}}
    )


Keeper = Callable[[Path], AbstractContextManager[Durable]]


def _one(keeper: Keeper, folder: Path, told: list[tuple[bytes, int]], batches: int) -> Rate:
    async def run() -> Rate:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=SENDERS))
        return await send(told, batches, keep, checked_and_packed if keeper is to_store else checked)

    with keeper(folder) as keep:
        return asyncio.run(run())


def _cells(rates: list[Rate], product: list[Rate]) -> dict[str, Cell]:
    middle = median(rate.rows_per_s for rate in rates)
    return {
        "rows_per_s": middle,
        "p50_ms": median(rate.p50_ms for rate in rates),
        "p99_ms": median(rate.p99_ms for rate in rates),
        "times": median(rate.rows_per_s for rate in product) / middle,
    }


BENCH: Final = Bench(
    name="ingest",
    words="rows a second that become durable, beside fsync, DuckDB and SQLite",
    description=__doc__ or "",
    figures=FIGURES,
    headings={COLUMN: "pathgrade", "fsync": "fsync each", "duckdb": "DuckDB", "sqlite": "SQLite"},
    judged=COLUMN,
    needs=nothing_needed,
    measure=measure,
)
