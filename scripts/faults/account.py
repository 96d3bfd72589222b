"""The account of rows: what agents kept beside what the server has. Pure but for reading Parquet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from faults.replayed import ROWS

_NAMED: Final = {"readings": "test", "hops": "test", "flows": "process"}
"""The column that names the rows."""


class Account(NamedTuple):
    """Rows of all tables."""

    kept: int  # by agents, on disk
    lost: int
    doubled: int
    strange: int  # that nobody sent


def account(kept: Collection[str], found: Mapping[str, Mapping[str, int]]) -> Account:
    """Compare; ``found`` is by table and name."""
    counts = list(found.values())
    return Account(
        kept=len(kept) * ROWS * len(_NAMED),
        lost=sum(max(0, ROWS - one.get(name, 0)) for one in counts for name in kept),
        doubled=sum(max(0, count - ROWS) for one in counts for count in one.values()),
        strange=sum(count for one in counts for name, count in one.items() if name not in kept),
    )


def found(data: Path, agents: Collection[str]) -> dict[str, dict[str, int]]:
    """Count what is sealed in a stopped server's folder, of these agents."""
    return {table: _counted(data, table, column, agents) for table, column in _NAMED.items()}


def _counted(data: Path, table: str, column: str, agents: Collection[str]) -> dict[str, int]:
    files = [str(path) for path in (data / "parquet").glob(f"tenant=*/{table}/*/*.parquet")]
    if not files:
        return {}
    question = f"SELECT {column}, count(*) FROM read_parquet($1, hive_partitioning = false) GROUP BY ALL"
    rows = duckdb.execute(question, [files]).fetchall()
    return {name: count for name, count in rows if name.rpartition(".")[0] in agents}
