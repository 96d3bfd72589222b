"""Questions to the facts: DuckDB in memory over the Parquet files and the rows not yet sealed.

Facts have no database file: DuckDB would lock it against every other reader, and Parquet is the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import duckdb
import pyarrow as pa

from analytics.batch import OLDEST_SCHEMA, lacking
from analytics.clock import HOUR_US
from analytics.histogram import MOST_COUNT
from analytics.measurement import FACTS, Column
from analytics.memory import GIVES_BACK
from analytics.rollup import LIGHT_RTTS, MOST_SUM
from analytics.store.columns import STORED
from analytics.usage import KEYS, SUMS, By

SPILL_MOST: Final = "16GB"
"""Temporary files of one database: they lie on the disk that the spool needs as well."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one DuckDB may take. The store has two: one answers, one does the upkeep."""

    memory_mb: int = 2048
    threads: int = 2


def connect(limits: Limits, temporary: Path, database: str = ":memory:") -> duckdb.DuckDBPyConnection:
    """Open a database with every bound set: by itself DuckDB takes 80 % of the memory."""
    return duckdb.connect(
        database,
        config={
            "threads": limits.threads,
            "memory_limit": f"{limits.memory_mb}MB",
            "temp_directory": str(temporary),
            "max_temp_directory_size": SPILL_MOST,
            # What it has read of files would stay until its memory is full; the kernel keeps them as well.
            "enable_external_file_cache": False,
            **GIVES_BACK,
            # Without these DuckDB fetches what it lacks from the internet.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )


# Only names of tables and columns, which are constants, are put into the text; values are parameters.
_OWN: Final = {name: ", ".join(table.__struct_fields__) for name, table in FACTS.items()}
_STORED: Final = {name: ", ".join(column.name for column in stored) for name, stored in STORED.items()}

LATEST_KEY: Final = ("cycle", "ended_us", "received_us", "batch")
LATEST_FIRST: Final = ", ".join(f"{column} DESC" for column in LATEST_KEY)

READINGS_LATEST: Final = f"""
    SELECT {_OWN["readings"]} FROM facts
    WHERE tenant = $tenant AND received_us <= $at_us
    QUALIFY row_number() OVER (
        PARTITION BY src, dst ORDER BY {LATEST_FIRST}) = 1
    ORDER BY src, dst
"""  # noqa: S608  # see above

READINGS_LATEST_SINCE: Final = READINGS_LATEST.replace(
    "received_us <= $at_us", "received_us <= $at_us AND cycle >= $first_cycle"
)
READINGS_LATEST_OF_AGENT: Final = f"""
    SELECT {_OWN["readings"]} FROM facts
    WHERE tenant = $tenant AND received_us <= $at_us AND cycle >= $first_cycle
        AND (src = $agent OR dst = $agent)
    QUALIFY row_number() OVER (
        PARTITION BY src, dst ORDER BY {LATEST_FIRST}) = 1
    ORDER BY src, dst
"""  # noqa: S608  # see above

WANTED: Final = "wanted"
"""A registered table of what is asked for; in a list, DuckDB would look for numpy at each value."""
READINGS_LATEST_OF: Final = READINGS_LATEST.replace(
    "FROM facts", f"FROM facts SEMI JOIN {WANTED} USING (src, dst)"
)
"""Of some paths only."""
_OF_PAIR: Final = """(
        SELECT * FROM facts WHERE tenant = $tenant AND src = $one AND dst = $other
        UNION ALL SELECT * FROM facts WHERE tenant = $tenant AND src = $other AND dst = $one)"""
"""Both directions between two agents. Written so that an engine needs to look at few pieces of each file."""
STORED_OF_PAIR: Final = f"""
    SELECT {_STORED["readings"]} FROM {_OF_PAIR} WHERE received_us <= $at_us
"""  # noqa: S608  # see above


def readings_latest_in(columns: Sequence[str]) -> str:
    """As ``READINGS_LATEST``, some columns only, in no order: of a million paths every column counts."""
    own = ", ".join(columns)
    latest = READINGS_LATEST.replace(_OWN["readings"], own).replace("ORDER BY src, dst", "")
    return latest


def arrived_since(columns: Sequence[str]) -> str:
    """Ask for all readings that were received since ``$since_us``."""
    own = ", ".join(columns)
    return f"SELECT {own} FROM facts WHERE tenant = $tenant AND received_us BETWEEN $since_us AND $at_us"  # noqa: S608  # see above


MEASURED: Final = "SELECT DISTINCT src, dst FROM facts WHERE tenant = $tenant AND received_us <= $at_us"
"""The paths that ``READINGS_LATEST`` names."""

_PAST: Final = f"""
    SELECT src, dst, least(ended_us, received_us) AS at_us, rung, rtt_min_us, rtt_p50_us,
        one_way_min_us, one_way_bound_us
    FROM {{0}}
    WHERE tenant = $tenant AND cycle >= $since_us // 1000000 AND received_us <= $at_us
      AND rtt_min_us IS NOT NULL AND rtt_p50_us IS NOT NULL
    QUALIFY rtt_n > {LIGHT_RTTS}
        OR row_number() OVER (PARTITION BY src, dst, at_us // 300000000 ORDER BY rtt_n DESC) = 1
    ORDER BY src, dst, at_us
"""  # noqa: S608  # see above
"""A path's light tests between cycles (``server.budget.WATCH_PROBES``) count as one in five minutes, and not
where there is a deeper one: what is usual must not be what was watched."""
PAST: Final = _PAST.format("facts")
PAST_OF: Final = _PAST.format(f"facts SEMI JOIN {WANTED} USING (src, dst)")
"""Of some paths only."""
PAST_OF_ONE: Final = _PAST.format("facts").replace("WHERE", "WHERE src = $src AND dst = $dst AND")
"""Of one: an engine finds it in few pieces of each file."""

READINGS_BEFORE: Final = f"""
    SELECT {_OWN["readings"]} FROM facts
    WHERE tenant = $tenant AND cycle >= $since_us // 1000000 AND cycle < $until_us // 1000000
      AND list_contains($paths, src || ' ' || dst)
    QUALIFY row_number() OVER (
        PARTITION BY src, dst ORDER BY cycle DESC, ended_us DESC, received_us DESC, batch DESC) <= $most
    ORDER BY src, dst, cycle, ended_us
"""  # noqa: S608  # see above

TOLD: Final = (
    *("tenant", "cycle", "test", "src", "dst", "started_us", "ended_us", "rung", "rungs_failed", "error"),
    *("sent", "received", "rtt_n", "rtt_min_us", "rtt_p25_us", "rtt_p50_us", "rtt_p75_us", "rtt_p90_us"),
    *("rtt_p95_us", "rtt_p99_us", "capacity_kbps", "capacity_trust", "route_id", "route_change"),
)
"""What of a reading its grade and a timeline need."""


def of_agent(columns: Sequence[str]) -> str:
    """Ask for columns of the readings with an agent at an end, in no order; their names are constants."""
    return f"""
    SELECT {", ".join(columns)} FROM facts
    WHERE tenant = $tenant AND (src = $agent OR dst = $agent)
      AND cycle >= $first_cycle AND cycle <= $last_cycle
    """  # noqa: S608  # see above


SIGNED_BY_BOTH: Final = """
    SELECT DISTINCT cycle, test, src, dst FROM facts
    WHERE tenant = $tenant AND src = $agent AND dst_signature <> ''
      AND cycle >= $first_cycle AND cycle <= $last_cycle
"""

READINGS_OF_PATH: Final = f"""
    SELECT {", ".join(TOLD)} FROM facts
    WHERE tenant = $tenant AND src = $src AND dst = $dst AND cycle >= $first_cycle AND cycle <= $last_cycle
    ORDER BY cycle, test, received_us, batch
"""  # noqa: S608  # see above
"""One direction: files are sorted by it, so that one row group of a day's file is read, not the rest."""

USUAL_HOPS: Final = """
    SELECT src, dst, ttl, address, median(rtt_min_us)::BIGINT AS rtt_min_us FROM facts
    WHERE tenant = $tenant AND cycle >= $since_us // 1000000 AND cycle < $until_us // 1000000
      AND rtt_min_us IS NOT NULL AND is_end = 0 AND list_contains($paths, src || ' ' || dst)
    GROUP BY ALL ORDER BY ALL
"""

HOPS_OF: Final = f"""
    SELECT {_OWN["hops"]} FROM facts SEMI JOIN {WANTED} USING (test)
    WHERE tenant = $tenant
    ORDER BY test, src, ttl
"""  # noqa: S608  # see above

HOPS_OF_PATHS: Final = f"""
    SELECT {_OWN["hops"]} FROM facts SEMI JOIN {WANTED} USING (test)
    WHERE tenant = $tenant AND src BETWEEN $first AND $last AND cycle BETWEEN $first_cycle AND $last_cycle
    ORDER BY test, src, ttl
"""  # noqa: S608  # see above
"""As ``HOPS_OF``, and files are sorted by source: a few paths' are found without reading all of them."""

HOPS_OF_PAIR: Final = f"""
    SELECT {_OWN["hops"]} FROM {_OF_PAIR} SEMI JOIN {WANTED} USING (test)
    WHERE cycle BETWEEN $first_cycle AND $last_cycle
    ORDER BY test, src, ttl
"""  # noqa: S608  # see above

RECEIPTS_OF_PAIR: Final = f"""
    SELECT {_OWN["receipts"]} FROM {_OF_PAIR} SEMI JOIN {WANTED} USING (test)
    WHERE cycle BETWEEN $first_cycle AND $last_cycle
    ORDER BY cycle, test, src, received_us DESC, batch DESC
"""  # noqa: S608  # see above

FLOWS: Final = f"""
    SELECT {_OWN["flows"]} FROM facts
    WHERE tenant = $tenant AND window_us >= $since_us AND ($until_us IS NULL OR window_us <= $until_us)
      AND ($agent IS NULL OR agent = $agent)
      AND ($process IS NULL OR process = $process)
      AND ($remote IS NULL OR remote_address = $remote)
      AND ($but IS NULL OR process <> $but)
    ORDER BY window_us DESC, agent, process, remote_address, service_port
    LIMIT $limit
"""  # noqa: S608  # see above

FLOWS_OF_PAIR: Final = f"""
    SELECT {_OWN["flows"]} FROM facts
    WHERE tenant = $tenant AND window_us >= $since_us AND ($until_us IS NULL OR window_us <= $until_us)
      AND (agent = $one OR agent = $other) AND list_contains($addresses, remote_address)
      AND ($but IS NULL OR process <> $but)
    ORDER BY window_us DESC, agent, process, remote_address, service_port
    LIMIT $limit
"""  # noqa: S608  # see above

FLOWS_OF_SERVICES: Final = f"""
    SELECT {_OWN["flows"]} FROM facts
    WHERE tenant = $tenant AND window_us >= $since_us AND window_us <= $until_us
      AND list_contains($ports, service_port) AND ($agent IS NULL OR agent = $agent)
    ORDER BY window_us DESC, agent, process, remote_address, service_port
    LIMIT $limit
"""  # noqa: S608  # see above


def usage_question(by: By) -> str:
    """Sum flows by agent, hour and what ``by`` says; the groups with the most sessions.

    The lists of a histogram are unfolded and folded again: equal buckets are added up.
    """
    keys = ", ".join(("agent", *KEYS[by]))
    sums = ", ".join(f"least(sum({name}), {MOST_SUM})::BIGINT AS {name}" for name in SUMS)
    return f"""
    , chosen AS NOT MATERIALIZED (
        SELECT *, window_us - window_us % {HOUR_US} AS hour_us FROM facts
        WHERE tenant = $tenant AND window_us >= $since_us AND window_us <= $until_us
          AND ($agent IS NULL OR agent = $agent) AND ($but IS NULL OR process <> $but)),
    sums AS (SELECT {keys}, hour_us, {sums} FROM chosen GROUP BY ALL),
    busiest AS (
        SELECT {keys} FROM sums GROUP BY ALL
        ORDER BY sum(opened) DESC, sum(segments_sent) DESC, {keys} LIMIT $limit),
    pairs AS (
        SELECT {keys}, hour_us, bucket, least(sum(count), {MOST_COUNT})::BIGINT AS count
        FROM (
            SELECT {keys}, hour_us,
                unnest(srtt_lasting_histogram[1:-1:2]) AS bucket,
                unnest(srtt_lasting_histogram[2:-1:2]) AS count
            FROM chosen)
        GROUP BY ALL),
    histograms AS (
        SELECT {keys}, hour_us, flatten(list([bucket, count] ORDER BY bucket)) AS srtt_lasting_histogram
        FROM pairs GROUP BY ALL)
    SELECT sums.*, coalesce(srtt_lasting_histogram, []) AS srtt_lasting_histogram
    FROM sums SEMI JOIN busiest USING ({keys}) LEFT JOIN histograms USING ({keys}, hour_us)
    ORDER BY {keys}, hour_us
    """  # noqa: S608  # see above


def wanted_paths(paths: Iterable[tuple[str, str]]) -> dict[str, pa.Table]:
    """Register paths as what is asked for."""
    named = list(paths)
    columns = {"src": [src for src, _ in named], "dst": [dst for _, dst in named]}
    return {WANTED: pa.table(columns, schema=pa.schema([("src", pa.string()), ("dst", pa.string())]))}


def wanted_tests(tests: Iterable[str]) -> dict[str, pa.Table]:
    """Register tests as what is asked for."""
    return {WANTED: pa.table({"test": pa.array(sorted(set(tests)), pa.string())})}


@dataclass(frozen=True, slots=True)
class Shared:
    """Sealed rows that are not in the folder's files: a relation, and values of its parameters."""

    relation: str
    given: dict[str, Any]


class UnreadableFactsError(Exception):
    """DuckDB could not read one of the files. Never leaves the store."""


class StoppedError(Exception):
    """The store is being closed. Never leaves it."""


class Engine:
    """One DuckDB in memory; a cursor a question, so that threads do not wait for each other."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._stopped = False

    def stop(self) -> None:
        """Answer nothing more: ``StoppedError`` instead."""
        self._stopped = True

    def resume(self) -> None:
        """Answer again."""
        self._stopped = False

    def close(self) -> None:
        """End DuckDB."""
        self._database.close()

    @property
    def database(self) -> duckdb.DuckDBPyConnection:
        """For who attaches more to it."""
        return self._database

    def ask(
        self,
        table: str,
        question: str,
        *,
        files: Sequence[Path],
        fresh: pa.Table,
        given: Mapping[str, Any],
        shared: Shared | None = None,
    ) -> list[dict[str, Any]]:
        """Answer a question over ``facts``: the table's files, shared and fresh rows together, as rows.

        Raises ``UnreadableFactsError`` where a file fails.
        """
        answer = self.table(table, question, files=files, fresh=fresh, given=given, shared=shared)
        return answer.to_pylist()  # type: ignore[no-any-return]  # pyarrow is untyped

    def table(
        self,
        table: str,
        question: str,
        *,
        files: Sequence[Path],
        fresh: pa.Table,
        given: Mapping[str, Any],
        shared: Shared | None = None,
        **registered: pa.Table,
    ) -> pa.Table:
        """As ``ask``, as an Arrow table; ``registered`` as for ``run``."""
        asked = f"WITH facts AS NOT MATERIALIZED ({facts(table, bool(files), shared)}) {question}"
        more = shared.given if shared else {}
        return self.run(asked, files=files, given={**given, **more}, fresh=fresh, **registered)

    def run(
        self,
        statement: str,
        *,
        files: Sequence[Path] = (),
        given: Mapping[str, Any] = MappingProxyType({}),
        **registered: pa.Table,
    ) -> pa.Table:
        """Run one statement; ``$files`` are paths, ``registered`` Arrow tables by name. Raises as ``ask``."""
        if self._stopped:
            raise StoppedError
        parameters = {**given, "files": [str(file) for file in files]} if files else dict(given)
        try:
            with self._database.cursor() as cursor:
                for name, content in registered.items():
                    cursor.register(name, content)
                return cursor.execute(statement, parameters).to_arrow_table()
        except (duckdb.Error, pa.ArrowException) as error:
            raise UnreadableFactsError(str(error)) from error


def facts(table: str, with_files: bool, shared: Shared | None = None) -> str:
    """Select sealed rows (``$files``, shared ones) and ``fresh`` ones, by name.

    A file written before a column was added has its default there.
    """
    parts = [f"SELECT {_STORED[table]} FROM fresh"]  # noqa: S608  # see above
    if with_files:
        parts.append("SELECT * FROM read_parquet($files, union_by_name = true, hive_partitioning = false)")
    if shared:
        parts.append(shared.relation)
    if len(parts) == 1:
        return parts[0]
    return f"SELECT {_CURRENT[table]} FROM ({' UNION ALL BY NAME '.join(parts)})"  # noqa: S608  # see above


def _current(table: str) -> str:
    """Read NULL as the default, of those columns that a file may lack and that have one."""
    later = lacking(table, OLDEST_SCHEMA)
    told = (_or_default(c) for c in STORED[table] if c.name in later and c.default is not None)
    replaced = ", ".join(told)
    return f"* REPLACE ({replaced})" if replaced else "*"


def _or_default(column: Column) -> str:
    literal = {"int": "{}", "str": "'{}'", "ints": "[]::BIGINT[]"}[column.kind].format(column.default)
    return f"coalesce({column.name}, {literal}) AS {column.name}"


_CURRENT: Final = {table: _current(table) for table in FACTS}
