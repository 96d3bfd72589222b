"""Writes ``docs/schema.md``, the data dictionary: ``python -m analytics.schema_doc [FILE]``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from analytics.export import PATH_COLUMNS
from analytics.exports import FINDING_SCHEMA, GRADE_SCHEMA
from analytics.measurement import FACTS, SORT_KEYS, Column, Kind
from analytics.rollup import KEYS, Level, Rollup
from analytics.store.columns import ORIGIN, ROLLUP, STORED

TARGET: Final = Path("docs/schema.md")

_INTRODUCTION: Final = """\
# Data dictionary

Generated from `analytics/measurement.py`, `rollup.py`, `export.py` and `exports.py` by `python -m
analytics.schema_doc`. Do not edit.

Facts are written once and never changed. They lie in the server's data folder as
`parquet/tenant=<tenant>/<table>/date=<day of receipt, UTC>/<segment>.parquet`, so that no file has the rows
of two tenants, and anything that reads Parquet may read them while the server runs:

```sql
SELECT src, dst, rtt_p50_us
FROM read_parquet('DATA/parquet/tenant=default/readings/*/*.parquet', hive_partitioning = false);
```

Integers throughout: microseconds, basis points (1/100 of a percent), kilobits per second. What was not
measured is null, never 0. Each field of a Parquet file carries its description and unit as metadata.

A file lacks the columns that came after it was written; the server reads them as 0, as the empty text or
list, or as null where the column may be null.

A histogram is a list `[bucket, count, bucket, count ..]`, buckets rising, 16 to each doubling
(`analytics/histogram.py`). Histograms are merged by adding the counts of each bucket, so medians over hours
and hosts are right to 3.2 %. The values `v` of bucket `b` are those with
`(b - 16 * s) << s <= v < (b + 1 - 16 * s) << s`, where `s = max(0, (b >> 4) - 1)`:

```sql
SELECT process, h[i] AS bucket, sum(h[i + 1]) AS sessions
FROM (SELECT process, srtt_histogram AS h, unnest(range(1, len(srtt_histogram), 2)) AS i
      FROM read_parquet('DATA/parquet/tenant=default/flows/*/*.parquet', union_by_name = true,
                        hive_partitioning = false))
GROUP BY ALL ORDER BY ALL;
```
"""
_TYPES: Final[dict[Kind, str]] = {"int": "int64", "str": "text", "ints": "list of int64"}
_ORIGIN: Final = """\
## Every table: where a row came from

Added by the server. (tenant, sender, boot, batch) names a batch for ever; the server keeps one copy however
often it is sent.
"""
_ROLLUP: Final = """\
`rollup/tenant=<tenant>/<table>/date=<day of receipt>/<hour>.parquet` (`day.parquet` of `readings_1d`): five
minutes, an hour and a day of the readings, made when the hour or the day is over. A file is of what was
received in its hour; tests that ended earlier and came late are in it with the time in which they ended:
**fold rows of one key**: counts and sums are added, of the others the least or greatest is taken as the name
says, histograms are merged. A day is exactly the fold of its hours, and an hour of its five minutes.

`rtt_histogram` is laid out as any histogram, with 64 buckets to a doubling instead of 16: read 64 for 16 and
6 for 4 in the formula above. Its quantiles are right to 0.8 %.

```sql
SELECT src, dst, rung, sum(rtt_p50_sum_us) / sum(answered) AS mean_us, min(rtt_min_us) AS least_us
FROM read_parquet('DATA/rollup/tenant=default/readings_1h/*/*.parquet', hive_partitioning = false)
GROUP BY ALL ORDER BY ALL;
```
"""
_EXPORT: Final = """\
## Exported paths

`pathgrade export paths`: the latest of every directed path with its grade, as the page shows it; with
`--since` a row for each test in that time, graded as of its end and by the probes alone. The measured legs
of a row sum to its `rtt_min_us`.
"""
_FACTS: Final = """\
## Exports

`pathgrade export paths`, `hops`, `flows`, `grades`, `receipts` or `findings` writes Parquet, CSV or Arrow
(the IPC file format), in bounded memory on both sides; [analysts.md](analysts.md) shows how to ask them.
`hops`, `flows` and `receipts` have the columns of the tables above, without those of the batch. Without
`--since` they and `grades` go a day back. CSV has no lists: numbers are separated by blanks, texts by
semicolons; and a text that a spreadsheet would run (`=`, `+`, `-`, `@` at its start) has an apostrophe before
it. Every field of Parquet and Arrow carries its description and unit, and its texts are as they were
measured.
"""
_GRADES: Final = """\
## Exported grades

`pathgrade export grades`: a row for each direction of each test and each profile, graded anew by the rules of
today, by the probes alone, as of the end of the test.
"""
_FINDINGS: Final = """\
## Exported findings

`pathgrade export findings`: the causes that bad paths share, now or at `--until`.
"""


def schema_text() -> str:
    """The document."""
    tables = [_table(name) for name in FACTS]
    export = [(c.name, str(c.type).replace("string", "text"), c.unit, c.description) for c in PATH_COLUMNS]
    origin = _ORIGIN + _grid(_row(column) for column in ORIGIN)
    doc = (Rollup.__doc__ or "").strip()
    head = f"## {', '.join(Level)}\n\n{doc} Sorted by {', '.join(KEYS)}.\n\n"
    rollup = head + _ROLLUP + _grid(_row(column) for column in ROLLUP)
    more = [_GRADES + _grid(_fields(GRADE_SCHEMA)), _FINDINGS + _grid(_fields(FINDING_SCHEMA))]
    return "\n".join([_INTRODUCTION, *tables, origin, rollup, _FACTS, _EXPORT + _grid(export), *more])


def _fields(schema: pa.Schema) -> Iterable[Sequence[str]]:
    for field in schema:
        kind = str(field.type).replace("string", "text").replace("list<item: text>", "list of text")
        yield field.name, kind, field.metadata[b"unit"].decode(), field.metadata[b"description"].decode()


def _table(name: str) -> str:
    doc = (FACTS[name].__doc__ or "").strip()
    order = ", ".join(SORT_KEYS[name])
    own = STORED[name][: -len(ORIGIN)]
    return f"## {name}\n\n{doc} Sorted by {order}.\n{_grid(_row(column) for column in own)}"


def _row(column: Column) -> Sequence[str]:
    kind = _TYPES[column.kind] + (" or null" if column.nullable else "")
    values = f" One of: {', '.join(column.choices)}." if column.choices else ""
    return (
        column.name,
        kind,
        column.unit,
        f"{column.description}.{values}" if values else column.description,
    )


def _grid(rows: Iterable[Sequence[str]]) -> str:
    head = "\n| column | type | unit | meaning |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{name}` | {kind} | {unit} | {_cell(what)} |\n" for name, kind, unit, what in rows
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: Sequence[str]) -> None:
    """Write the document to the file named, or to its place in the tree."""
    target = Path(arguments[0]) if arguments else TARGET
    target.write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
