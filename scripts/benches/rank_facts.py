"""Readings of a large fleet, written as the store seals them: what ``scripts/bench rank`` ranks.

Round trips are lognormal between sites and have a tail within a test; one path in ten loses packets; one
test in a thousand failed. The same seed gives the same files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from analytics.measurement import Column
from analytics.shapes import Member
from analytics.store import seal
from analytics.store.columns import SCHEMAS, STORED
from analytics.store.known import KnownBatches

AGENTS: Final = 1_000
SITES: Final = 25
CYCLES: Final = 20
PERIOD_S: Final = 4_320
"""A day in 20 cycles: thinned, so that the files stay below 2 GB."""
AT_US: Final = 1_795_464_000_000_000
TENANT: Final = "default"

_VALUES: Final = {
    "tenant": f"'{TENANT}'",
    "cycle": "cycle",
    "test": "format('{:x}-{:d}', hash(least(a, b) * 65536 + greatest(a, b)), cycle)[1:32]",
    "src": "format('agent-{:04d}', a)",
    "dst": "format('agent-{:04d}', b)",
    "started_us": "cycle * 1000000 + own * 1000",
    "ended_us": "cycle * 1000000 + own * 1000 + 30000000",
    "rung": "CASE WHEN own % 1000 = 0 THEN 'none' WHEN own % 7 = 0 THEN 'relay-udp' ELSE 'srflx' END",
    "sent": "300",
    "received": "300 - lost",
    "rtt_n": "300 - 2 * lost",
    "rtt_min_us": "base",
    "rtt_p10_us": "(base * 1.01)::BIGINT",
    "rtt_p25_us": "(base * 1.02)::BIGINT",
    "rtt_p50_us": "(base * 1.04)::BIGINT",
    "rtt_p75_us": "(base * 1.08)::BIGINT",
    "rtt_p90_us": "(base * 1.15)::BIGINT + own",
    "rtt_p95_us": "(base * 1.2)::BIGINT + 2 * own",
    "rtt_p99_us": "(base * 1.3)::BIGINT + 5 * own",
    "ipdv_us": "own",
    "capacity_kbps": "5000 + pair % 900000",
    "capacity_trust": "CASE WHEN pair % 3 = 0 THEN 'at-least' ELSE 'measured' END",
    "stamps": "'kernel'",
    "sender": "format('agent-{:04d}', a)",
    "boot": "'0123456789abcdef'",
    "batch": "cycle // 60",
    "received_us": "cycle * 1000000 + 60000000",
}
_DRAWN: Final = """
    SELECT *, CASE WHEN pair % 10 = 0 THEN own % 7 ELSE 0 END AS lost,
        (2000 * exp(4 * (pair % 1000003) / 1000003.0) * (1 + own / 20000.0))::BIGINT AS base
    FROM (
        SELECT a, b, cycle, hash(a // 40 * 1000 + b // 40, 7) % 1000000007
                + hash(least(a, b), greatest(a, b)) % 997 AS pair,
            (hash(a, b, cycle) % 5000)::BIGINT AS own
        FROM range($agents) AS x(a), range($agents) AS y(b), (SELECT $cycle::BIGINT AS cycle) WHERE a <> b)
"""


def members(agents: int) -> list[Member]:
    """The fleet that the readings are of."""
    return [Member(name=f"agent-{n:04d}", site=f"site-{n * SITES // agents:02d}") for n in range(agents)]


def cycles(count: int) -> list[int]:
    """Starts of the cycles, in seconds since 1970; the last one ended just before ``AT_US``."""
    last = AT_US // 1_000_000 - 240
    return [last - PERIOD_S * back for back in reversed(range(count))]


def write(folder: Path, agents: int, segment: int, cycle: int) -> Path:
    """Seal the readings of one cycle as one segment; returns its file."""
    day = seal.day_of(cycle * 1_000_000)
    tables = {("default", "readings", day): [rows(agents, cycle)]}
    (sealed,) = seal.seal_segment(folder, segment, tables, KnownBatches())
    return sealed.path


def rows(agents: int, cycle: int) -> pa.Table:
    """All readings of one cycle, in the order of src and dst."""
    columns = ", ".join(f"{_value(column)} AS {column.name}" for column in STORED["readings"])
    with duckdb.connect(":memory:", config={"threads": 2}) as database:
        database.execute("SET enable_progress_bar = false")
        answer = database.execute(
            f"SELECT {columns} FROM ({_DRAWN} ORDER BY a, b)", {"agents": agents, "cycle": cycle}
        )
        return answer.to_arrow_table().cast(SCHEMAS["readings"])


def _value(column: Column) -> str:
    kind = "BIGINT" if column.kind == "int" else "VARCHAR"
    default = "NULL" if column.default is None else f"'{column.default}'"
    return f"({_VALUES.get(column.name, default)})::{kind}"
