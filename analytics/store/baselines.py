"""What is usual on every path, from rollups: a span of paths at a time.

The same question as ``analytics/baseline.py`` asks of single tests, of all paths at once: the median of two
weeks of tests, of the same hour of the week where that is known, and how far they lie from it; of the rung
that is used now, since it was last another. Days that are over are asked as one row each, the day that runs
by its hours; the values are histograms', so right to 0.8 %.

Who looks for a change uses it as a screen (``analytics/screen.py``): a path that may be slower is looked at
again, test by test.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from analytics.baseline import KEPT_US, LEAST_N, LEAST_OF_HOUR, LEAST_SPAN_US, LEAST_SPREAD_US, NORMAL
from analytics.clock import HOUR_US
from analytics.histogram import FINE_BITS
from analytics.rollup import Level
from analytics.screen import Screened
from analytics.store.ordered import spans
from analytics.store.query import Engine
from analytics.store.rolled import AllRollups, Rollups, day_of_hour
from analytics.store.seal import hour_of_day

HOURS_OF_WEEK: Final = 168
YOUNG_DAYS: Final = 3
PIECE_ROWS: Final = 200_000
"""Rows of rollups at once: each is unfolded into its buckets."""

# Only names of columns, which are constants, are put into the text; values are parameters.
_FILES: Final = "read_parquet($files, hive_partitioning = false, union_by_name = true)"
_SHIFT: Final = f"greatest(0, ({{0}} >> {FINE_BITS}) - 1)"
_LOWEST: Final = f"(({{0}} - ({_SHIFT} << {FINE_BITS})) << {_SHIFT})"
_MIDDLE: Final = f"(({_LOWEST.format('bucket')} + {_LOWEST.format('(bucket + 1)')} - 1) // 2)"
_PATH: Final = "tenant, src, dst"
_WEIGHTED: Final = """(
        SELECT tenant, src, dst, min(value) AS value FROM (
            SELECT tenant, src, dst, value, sum(n) OVER every_path AS total,
                sum(n) OVER (PARTITION BY tenant, src, dst ORDER BY value) AS upto
            FROM {0} WINDOW every_path AS (PARTITION BY tenant, src, dst))
        WHERE 2 * upto >= total GROUP BY ALL)"""

SCREEN: Final = f"""
    WITH every AS (
        SELECT {_PATH}, rung, start_us, answered, first_us, last_us, rtt_p50_sum_us, rtt_histogram
        FROM {_FILES}
        WHERE tenant = $tenant AND src BETWEEN $first AND $last AND answered > 0 AND last_us >= $since_us),
    used AS (SELECT {_PATH}, arg_max(rung, last_us) AS rung FROM every GROUP BY ALL),
    before AS (
        SELECT {_PATH}, max(last_us) AS until_us
        FROM every JOIN used USING ({_PATH}) WHERE every.rung <> used.rung GROUP BY ALL),
    own AS (
        SELECT every.* FROM every JOIN used USING ({_PATH}, rung) LEFT JOIN before USING ({_PATH})
        WHERE until_us IS NULL OR first_us > until_us),
    sums AS (
        SELECT {_PATH}, rung, sum(answered)::BIGINT AS n, max(last_us) - min(first_us) AS span_us
        FROM own GROUP BY ALL),
    days AS (
        SELECT {_PATH}, (sum(rtt_p50_sum_us) // sum(answered))::BIGINT AS mean_us
        FROM own GROUP BY {_PATH}, start_us // {24 * HOUR_US}),
    floors AS (SELECT {_PATH}, min(mean_us) AS floor_us FROM days GROUP BY ALL),
    pairs AS (
        SELECT {_PATH}, unnest(rtt_histogram[1:-1:2]) AS bucket, unnest(rtt_histogram[2:-1:2]) AS n FROM own),
    counted AS (SELECT {_PATH}, {_MIDDLE} AS value, sum(n) AS n FROM pairs GROUP BY ALL),
    medians AS MATERIALIZED {_WEIGHTED.format("counted")},
    distances AS (
        SELECT {_PATH}, abs(counted.value - medians.value) AS value, sum(n) AS n
        FROM counted JOIN medians USING ({_PATH}) GROUP BY ALL),
    deviations AS {_WEIGHTED.format("distances")}
    SELECT {_PATH}, rung, medians.value::BIGINT AS rtt_us,
        greatest({LEAST_SPREAD_US}, round({NORMAL} * deviations.value))::BIGINT AS spread_us,
        n, floor_us, span_us
    FROM sums JOIN medians USING ({_PATH}) JOIN deviations USING ({_PATH}) JOIN floors USING ({_PATH})
    WHERE n >= $least_n AND span_us >= $least_span_us
"""  # noqa: S608  # see above
_INSERT: Final = f"""
    INSERT INTO {{table}} SELECT {_PATH}, rung, rtt_us, spread_us, n, floor_us FROM ({SCREEN})
"""  # noqa: S608  # see above
_THEN: Final = f"""
    SELECT src, dst, rung, rtt_us, spread_us, n, false AS of_hour,
        least(floor_us, rtt_us) * 99 // 100 AS floor_us  -- as above
    FROM ({SCREEN})
"""  # noqa: S608  # see above
_OWNERS: Final = f"SELECT tenant, src AS owner, count(*) AS n FROM {_FILES} GROUP BY ALL ORDER BY ALL"  # noqa: S608  # see above
_MADE: Final = """CREATE OR REPLACE TABLE {} (tenant VARCHAR, src VARCHAR, dst VARCHAR, rung VARCHAR,
    rtt_us BIGINT, spread_us BIGINT, n BIGINT, floor_us BIGINT)"""
_DAYS: Final = """CREATE OR REPLACE TABLE usual_days AS
    SELECT unnest($tenants::VARCHAR[]) AS tenant, unnest($days::VARCHAR[]) AS day"""
_BOTH: Final = f"""
    CREATE OR REPLACE TABLE usual AS
    SELECT {_PATH}, rung,
        coalesce(h.rtt_us, a.rtt_us) AS rtt_us, coalesce(h.spread_us, a.spread_us) AS spread_us,
        coalesce(h.n, a.n) AS n, h.n IS NOT NULL AS of_hour,
        least(a.floor_us, a.rtt_us, h.rtt_us) * 99 // 100 AS floor_us  -- buckets are right to 0.8 %
    FROM usual_all a LEFT JOIN usual_hour h USING ({_PATH}, rung) ORDER BY {_PATH}
"""  # noqa: S608  # see above


def tell_usual(
    engine: Engine, rollups: AllRollups, hour: int, told_days: Mapping[str, str]
) -> dict[str, str]:
    """Make the table ``usual`` anew, as of the beginning of an hour. Raises ``UnreadableFactsError``.

    What two weeks say is asked of a tenant when another day is rolled up than that of ``told_days``, which is
    returned; of a young fleet each hour.
    """
    since_us, last, every = hour * HOUR_US - KEPT_US, day_of_hour(hour), rollups.each()
    days = {tenant: {day for day in frozenset(own.days) if day <= last} for tenant, own in every}
    newest = {tenant: max(own, default="") for tenant, own in days.items()}
    kept = [
        tenant
        for tenant, day in newest.items()
        if day == told_days.get(tenant) and len(days[tenant]) >= YOUNG_DAYS
    ]
    _begin(engine, "usual_all", kept)
    _begin(engine, "usual_hour", [])
    of_all = {"since_us": since_us, "least_n": LEAST_N, "least_span_us": LEAST_SPAN_US}
    of_hour = {"since_us": since_us, "least_n": LEAST_OF_HOUR, "least_span_us": HOUR_US + 1}
    for tenant, own in every:
        if tenant not in kept:
            _fill(engine, "usual_all", blocks(own, hour), of_all)
        # Not all of one week: both, or what there is of both is more than an hour apart.
        same = [one for one in (hour - HOURS_OF_WEEK, hour - 2 * HOURS_OF_WEEK) if one in own.hours]
        _fill(engine, "usual_hour", [own.path(Level.HOUR, one) for one in same], of_hour)
    engine.run(_BOTH)
    engine.run("CREATE OR REPLACE TABLE usual_until AS SELECT $hour::BIGINT AS hour", given={"hour": hour})
    engine.run(_DAYS, given={"tenants": list(newest), "days": list(newest.values())})
    return newest


def usual_at(engine: Engine, rollups: Rollups, tenant: str, hour: int) -> list[Screened]:
    """What was usual as of the beginning of an hour of the past. Raises ``UnreadableFactsError``.

    Of all hours of the week: a path that could be slower is looked at test by test in any case.
    """
    files = blocks(rollups, hour)
    if not files:
        return []
    given = {"tenant": tenant, "first": "", "last": "~", "since_us": hour * HOUR_US - KEPT_US}
    given |= {"least_n": LEAST_N, "least_span_us": LEAST_SPAN_US}
    return msgspec.convert(engine.run(_THEN, files=files, given=given).to_pylist(), list[Screened])


def blocks(rollups: Rollups, hour: int) -> list[Path]:
    """Choose the files of the two weeks before an hour: of whole days where there are, else of hours."""
    hours = [one for one in sorted(frozenset(rollups.hours)) if hour - KEPT_US // HOUR_US <= one < hour]
    days = sorted({day_of_hour(one) for one in hours} & rollups.days)
    whole = {one for day in days for one in range(hour_of_day(day, 0), hour_of_day(day, 24))}
    fine = [rollups.path(Level.HOUR, one) for one in hours if one not in whole]
    return [*(rollups.day_path(day) for day in days), *fine]


def _begin(engine: Engine, table: str, kept: list[str]) -> None:
    """Empty a table, but for the rows of some tenants."""
    if kept:
        engine.run(f"DELETE FROM {table} WHERE NOT list_contains($kept, tenant)", given={"kept": kept})  # noqa: S608  # a constant
    else:
        engine.run(_MADE.format(table))


def _fill(engine: Engine, table: str, files: list[Path], given: dict[str, Any]) -> None:
    """Insert what the files of one tenant say."""
    if not files:
        return
    counted = engine.run(_OWNERS, files=files).to_pylist()
    for span in spans(counted, PIECE_ROWS):
        engine.run(_INSERT.format(table=table), files=files, given={**given, **span._asdict()})
