"""The batch: rows of facts on their way from an agent to the server.

``POST /v1/batches``, msgpack, optionally gzip::

    { schema: 3, agent: "pacs", boot: "6f1c..", batch: 17,
      tables: { "readings": { rows: 2, columns: { "src": {data, offsets}, "rtt_p50_us": {data, valid}, ...}}}}

Each column is laid out as ``analytics/column.py`` draws it.

(agent, boot, batch) names a batch for ever: the server keeps one copy however often it is sent.

Batches of an earlier schema are taken too: they wait in outboxes and spools for as long as an upgrade takes.
What their columns lack is added as they are read (``ADDED``), so nothing behind ``check_batch`` knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import Annotated, Any, Final

import msgspec

from analytics.column import (
    ColumnBlock,
    fault,
    pack,
    unpack,
    value_fault,
    values_said,
    within_bounds,
)
from analytics.errors import UNREADABLE, BatchError, SchemaVersionError
from analytics.measurement import FACTS, OWNER, Column, columns, count, named

SCHEMA_VERSION: Final = 3
OLDEST_SCHEMA: Final = 1
MAX_ROWS: Final = 100_000
"""Per table and batch: a thousand peers' hops, and a bound on what one check may cost."""

COLUMNS: Final[dict[str, tuple[Column, ...]]] = {name: columns(table) for name, table in FACTS.items()}

ADDED: Final[Mapping[int, Mapping[str, frozenset[str]]]] = MappingProxyType(
    {
        2: {
            "flows": frozenset(
                {
                    *("uid", "executable", "unit", "container", "congestion"),
                    *("failed", "resets_sent", "resets_received", "guessed", "duration_us"),
                    *("bytes_retransmitted", "dsack_duplicates", "reordering_seen"),
                    *("busy_us", "rwnd_limited_us", "sndbuf_limited_us"),
                    *("srtt_histogram", "srtt_lasting_histogram"),
                }
            )
        },
        3: {
            "readings": frozenset(
                {
                    "connect_total_us",
                    *("loss_bursts", "loss_longest"),
                    *("one_way_min_us", "one_way_p50_us", "one_way_bound_us"),
                    *("queueing_p50_us", "queueing_p95_us"),
                    *("capacity_why", "rtt_loaded_n", "rtt_loaded_p50_us", "rtt_loaded_p95_us"),
                    *("timer_late_p50_us", "timer_late_p99_us", "sent_bytes"),
                    *("route_id", "route_change", "path_mtu", "mtu_black_hole", "mtu_probes"),
                    *("class_sent", "class_arrived"),
                }
            ),
            "hops": frozenset({"route_id", "others", "rate_limited", "mpls", "rewritten", "traffic_class"}),
        },
    }
)
"""Schema version -> table -> columns that it brought. Each has a default: what an older row says of it."""


class TableBlock(msgspec.Struct, frozen=True):
    """The rows of one fact table."""

    rows: Annotated[int, msgspec.Meta(ge=0, le=MAX_ROWS)]
    columns: dict[str, ColumnBlock]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent sends at once, and the unit of acknowledgement."""

    schema: int
    agent: Annotated[str, named("the sender")]
    boot: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8,32}\Z", description="this life of the outbox")]
    batch: Annotated[int, count("number of the batch in this life")]
    tables: dict[str, TableBlock]


def pack_batch(*, agent: str, boot: str, batch: int, tables: Mapping[str, Sequence[msgspec.Struct]]) -> bytes:
    """Encode rows of facts, keyed by table name, as the body of one batch."""
    blocks = {
        name: TableBlock(
            rows=len(rows),
            columns={c.name: pack(c, list(map(attrgetter(c.name), rows))) for c in COLUMNS[name]},
        )
        for name, rows in tables.items()
    }
    return msgspec.msgpack.encode(
        Batch(schema=SCHEMA_VERSION, agent=agent, boot=boot, batch=batch, tables=blocks)
    )


RightColumns = Callable[[str, TableBlock, str], Collection[str]]
"""(table, its rows, the sender) -> columns that every check would pass, as far as that is seen at once."""


def none_known(name: str, block: TableBlock, agent: str) -> Collection[str]:
    """Know of no column that it is right: each is looked at."""
    return ()


def check_batch(body: bytes, right: RightColumns = none_known) -> Batch:
    """Decode a batch and check every length, bound and owner.

    The columns that ``right`` names are not looked at again (``analytics/store/glance.py``, where there is
    Arrow). Raises ``SchemaVersionError`` for a version this build does not know, ``BatchError`` for anything
    else.
    """
    try:
        version = msgspec.msgpack.decode(body, type=_Versioned).schema
        if not OLDEST_SCHEMA <= version <= SCHEMA_VERSION:
            raise SchemaVersionError(seen=version, known=SCHEMA_VERSION)
        batch = msgspec.msgpack.decode(body, type=Batch)
    except UNREADABLE as error:
        raise BatchError(f"not a batch: {error}") from error
    for name, block in batch.tables.items():
        if name not in FACTS:
            raise BatchError(f"unknown table {name!r}")
        _check_names(name, block, lacking(name, version))
        _check_table(name, block, batch.agent, right(name, block, batch.agent))
    return _as_current(batch)


def lacking(name: str, schema: int) -> frozenset[str]:
    """Columns of a table that its rows of an earlier schema do not have."""
    later = (tables.get(name, frozenset()) for version, tables in ADDED.items() if version > schema)
    return frozenset().union(*later)


def _as_current(batch: Batch) -> Batch:
    """Bring a checked batch of an earlier schema to this one, each new column with its default."""
    if batch.schema == SCHEMA_VERSION:
        return batch
    tables = {
        name: msgspec.structs.replace(block, columns=block.columns | _defaults(name, block, batch.schema))
        for name, block in batch.tables.items()
    }
    return msgspec.structs.replace(batch, schema=SCHEMA_VERSION, tables=tables)


def _defaults(name: str, block: TableBlock, schema: int) -> dict[str, ColumnBlock]:
    later = lacking(name, schema)
    return {c.name: pack(c, [c.default] * block.rows) for c in COLUMNS[name] if c.name in later}


def row_fault(name: str, row: msgspec.Struct, agent: str) -> str:
    """Say why a row would have the whole batch of ``agent`` refused; empty if it would not."""
    for column in COLUMNS[name]:
        value = getattr(row, column.name)
        wrong = value_fault(column, value)
        if not wrong and column.name == OWNER[name] and value != agent:
            wrong = f"not {agent}'s"
        if wrong:
            return f"{name}.{column.name}: {wrong}"
    return ""


def unpack_rows(name: str, block: TableBlock) -> list[Any]:
    """Rows of a checked table as structs: for what looks at a few; the store wraps the buffers instead."""
    values = {c.name: unpack(c, block.columns[c.name], block.rows) for c in COLUMNS[name]}
    return [
        msgspec.convert({key: column[i] for key, column in values.items()}, FACTS[name])
        for i in range(block.rows)
    ]


class _Versioned(msgspec.Struct):
    schema: int


def _check_names(name: str, block: TableBlock, later: frozenset[str]) -> None:
    expected = {column.name for column in COLUMNS[name]} - later
    if (seen := set(block.columns)) != expected:
        raise BatchError(f"{name}: columns differ: {', '.join(sorted(seen ^ expected))}")


def _check_table(name: str, block: TableBlock, agent: str, right: Collection[str]) -> None:
    for column in COLUMNS[name]:
        if column.name in block.columns and column.name not in right:
            _check_column(name, column, block, agent)


def _check_column(name: str, column: Column, block: TableBlock, agent: str) -> None:
    told = block.columns[column.name]
    if within_bounds(column, told, block.rows):
        return
    values = values_said(column, told, block.rows)
    if wrong := fault(column, values):
        raise BatchError(f"{name}.{column.name}: {wrong}")
    if column.name == OWNER[name] and any(value != agent for value in values):
        raise BatchError(f"{name}.{column.name}: rows that are not {agent}'s")
