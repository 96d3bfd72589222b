"""Tables of a lake: one a fact table, derived from the vocabulary, and one row a server."""

from __future__ import annotations

from typing import Final

import duckdb

from analytics.errors import LakeSetupError
from analytics.measurement import SORT_KEYS, Kind
from analytics.store.columns import STORED
from analytics.store.lake_engine import LAKE
from analytics.store.lake_place import SCHEMA
from analytics.store.query import Shared

TENANT: Final = "tenant"
"""First partition of every table: no file, also none that others are merged into, is of two tenants."""
DAY: Final = "day"
"""Second partition, YYYY-MM-DD of receipt: in the files' paths, not in the files."""
_TYPES: Final[dict[Kind, str]] = {"int": "BIGINT", "str": "VARCHAR", "ints": "BIGINT[]"}

# Only names of tables and columns, which are constants, are put into the text; values are parameters.
_WANTED: Final = {
    table: {column.name: _TYPES[column.kind] for column in stored} | {DAY: "VARCHAR"}
    for table, stored in STORED.items()
}
_PARTITION: Final = [TENANT, DAY]
_PARTITIONED: Final = f"ALTER TABLE {LAKE}.{{}} SET PARTITIONED BY ({', '.join(_PARTITION)})"
METADATA: Final = f"__ducklake_metadata_{LAKE}.{SCHEMA}.ducklake"
"""Begin of the names of the catalog's own tables, which DuckLake specifies."""
_PARTITION_OF: Final = f"""
    SELECT column_name FROM {METADATA}_table t
    JOIN {METADATA}_partition_info i USING (table_id)
    JOIN {METADATA}_partition_column p USING (partition_id)
    JOIN {METADATA}_column c ON c.column_id = p.column_id AND c.table_id = t.table_id
    WHERE t.table_name = $1
      AND t.end_snapshot IS NULL AND i.end_snapshot IS NULL AND c.end_snapshot IS NULL
    ORDER BY p.partition_key_index
"""  # noqa: S608  # see above


def lacks_tables(cursor: duckdb.DuckDBPyConnection) -> bool:
    """Whether the lake is new."""
    return not all(_columns(cursor, table) for table in _WANTED)


def ensure_tables(fence: str, cursor: duckdb.DuckDBPyConnection) -> None:
    """Make what a server needs, and bring to today's what an older one made. Raises ``LakeSetupError``."""
    for table, wanted in _WANTED.items():
        there = _columns(cursor, table)
        if not there:
            _create(cursor, table, wanted)
        for name, kind in wanted.items():
            if there and name not in there:
                cursor.execute(f"ALTER TABLE {LAKE}.{table} ADD COLUMN {name} {kind}")
            elif there and there[name] != kind:
                raise LakeSetupError(
                    f"the lake's column {table}.{name} is {there[name]}, not {kind}",
                    remedy="bring all servers of the lake to one version of pathgrade",
                )
        if there and _partition(cursor, table) != _PARTITION:
            cursor.execute(_PARTITIONED.format(table))  # what lies there already stays as it is, and is read
    cursor.execute(f"CREATE TABLE IF NOT EXISTS {fence} (token VARCHAR)")


def _create(cursor: duckdb.DuckDBPyConnection, table: str, wanted: dict[str, str]) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in wanted.items())
    cursor.execute(f"CREATE TABLE {LAKE}.{table} ({columns})")
    cursor.execute(_PARTITIONED.format(table))
    keys = ", ".join(f"{key} ASC" for key in SORT_KEYS[table])
    cursor.execute(f"ALTER TABLE {LAKE}.{table} SET SORTED BY ({keys})")


def set_options(cursor: duckdb.DuckDBPyConnection) -> None:
    """Set up a new lake's tables: else few rows are deleted in the catalog only, and their file stays."""
    for table in _WANTED:
        cursor.execute(f"CALL {LAKE}.set_option('data_inlining_row_limit', 0, table_name => '{table}')")


def _columns(cursor: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    asked = "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = $1 AND table_name = $2"
    return dict(cursor.execute(asked, [LAKE, table]).fetchall())


def _partition(cursor: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """Name the columns that a table is partitioned by now, by the tables of DuckLake's specification."""
    return [name for (name,) in cursor.execute(_PARTITION_OF, [table]).fetchall()]


def shared_rows(table: str, tenant: str, days: tuple[str, str], version: int) -> Shared:
    """Read a tenant's rows of a table's days, as of a snapshot."""
    names = ", ".join(column.name for column in STORED[table])
    relation = (
        f"SELECT {names} FROM {LAKE}.{table} AT (VERSION => {version:d}) "  # noqa: S608  # see above
        f"WHERE tenant = $of_tenant AND {DAY} BETWEEN $first_day AND $last_day"
    )
    return Shared(relation, {"of_tenant": tenant, "first_day": days[0], "last_day": days[1]})
