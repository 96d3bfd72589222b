"""Questions to the facts: DuckDB in memory over the Parquet files and the rows not yet sealed.

There is no database file: DuckDB would lock it against every other reader, and Parquet is the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from analytics.measurement import FACTS
from analytics.store.columns import STORED

MEMORY_LIMIT: Final = "2GB"
THREADS: Final = 2

_CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {
    "threads": THREADS,
    "memory_limit": MEMORY_LIMIT,
    # Without these DuckDB fetches what it lacks from the internet.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}

# Only names of tables and columns, which are constants, are put into the text; values are parameters.
_OWN: Final = {name: ", ".join(table.__struct_fields__) for name, table in FACTS.items()}
_STORED: Final = {name: ", ".join(column.name for column in stored) for name, stored in STORED.items()}

READINGS_LATEST: Final = f"""
    SELECT {_OWN["readings"]} FROM facts
    WHERE tenant = $tenant AND received_us <= $at_us
    QUALIFY row_number() OVER (
        PARTITION BY src, dst ORDER BY cycle DESC, ended_us DESC, received_us DESC, batch DESC) = 1
    ORDER BY src, dst
"""  # noqa: S608  # see above

HOPS_OF: Final = f"""
    SELECT {_OWN["hops"]} FROM facts
    WHERE tenant = $tenant AND list_contains($tests, test)
    ORDER BY test, src, ttl
"""  # noqa: S608  # see above

FLOWS: Final = f"""
    SELECT {_OWN["flows"]} FROM facts
    WHERE tenant = $tenant AND window_us >= $since_us
      AND ($agent IS NULL OR agent = $agent)
      AND ($process IS NULL OR process = $process)
      AND ($remote IS NULL OR remote_address = $remote)
      AND ($but IS NULL OR process <> $but)
    ORDER BY window_us DESC, agent, process, remote_address, service_port
    LIMIT $limit
"""  # noqa: S608  # see above


class UnreadableFactsError(Exception):
    """DuckDB could not read one of the files. Never leaves the store."""


class Engine:
    """One DuckDB in memory; a cursor a question, so that threads do not wait for each other."""

    def __init__(self) -> None:
        self._database = duckdb.connect(":memory:", config=_CONFIG)

    def close(self) -> None:
        """End DuckDB."""
        self._database.close()

    def ask(
        self, table: str, question: str, *, files: Sequence[Path], fresh: pa.Table, given: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Answer a question over ``facts``: the table's files and fresh rows together, as rows.

        Raises ``UnreadableFactsError`` where a file fails.
        """
        parameters = {**given, "files": [str(file) for file in files]} if files else given
        with self._database.cursor() as cursor:
            cursor.register("fresh", fresh)
            try:
                answer = cursor.execute(
                    f"WITH facts AS ({_facts(table, bool(files))}) {question}", parameters
                )
                return answer.to_arrow_table().to_pylist()  # type: ignore[no-any-return]  # pyarrow is untyped
            except (duckdb.Error, pa.ArrowException) as error:
                raise UnreadableFactsError(str(error)) from error


def _facts(table: str, with_files: bool) -> str:
    """Join both halves by name: a file written before a column was added has NULL there."""
    fresh = f"SELECT {_STORED[table]} FROM fresh"  # noqa: S608  # see above
    if not with_files:
        return fresh
    sealed = "SELECT * FROM read_parquet($files, union_by_name = true, hive_partitioning = false)"
    return f"{fresh} UNION ALL BY NAME {sealed}"
