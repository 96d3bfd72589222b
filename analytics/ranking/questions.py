"""The text of what the ranking has DuckDB do.

Names are constants, numbers are the fleet's; the rest is parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from analytics.letters import CANNOT
from analytics.measurement import CapacityTrust, Rung
from analytics.ranking.fleet import Fleet
from analytics.rules.load import Rules
from analytics.sql.grades import BACK, GRADE, LATEST_KEY, OWN, grades_sql
from analytics.sql.text import UNKNOWN, as_real, case, rounded, text
from analytics.store.columns import STORED
from analytics.tomography import region_of

# Only names of tables and columns, and numbers, are put into the text; the names of agents are quoted.

_KEPT: Final = ("position", "test", *dict.fromkeys((*OWN, *LATEST_KEY)))
_NARROW: Final = {
    # What is kept of a million paths is narrow: writing and joining it costs more than grading it.
    "position": "position",
    "test": "hash(test)",
    "rung": "rung::word",
    "capacity_trust": "capacity_trust::word",
    **{column: f"{column}::UINTEGER" for column in OWN if column.startswith("rtt_") and column != "rtt_n"},
}
_KEPT_TEXT: Final = ", ".join(f"{_NARROW.get(column, column)} AS {column}" for column in _KEPT)
_PLACED: Final = """
    (SELECT placed(a.number, b.number) AS position, facts.*
    FROM {} AS facts
    JOIN agents AS a ON a.name = facts.src JOIN agents AS b ON b.name = facts.dst
    {})
"""
"""Readings of enrolled agents. A join reads names half as long as an enumeration does."""
_FACTS: Final = _PLACED.format(
    "read_parquet($files, union_by_name = true, hive_partitioning = false)",
    "WHERE tenant = $tenant AND received_us <= $at_us",
)
_LATEST_FIRST: Final = ", ".join(f"{column} DESC" for column in LATEST_KEY)
_TYPES: Final = {
    column.name: "BIGINT" if column.kind == "int" else "VARCHAR" for column in STORED["readings"]
}
_WORDS: Final = (*Rung, *CapacityTrust)

UNRANKED: Final = 255
"""In place of a letter's code."""

PATH: Final = (
    *("ended_or_begun_us", "a_rtt_p50_us", "a_rtt_p95_us", "a_lost", "a_sent"),
    *("b_lost", "b_sent", "a_rung"),
)
"""What of a path is kept beside its grades."""
NUMBERS: Final = (
    *("outcome", "outcome_low", "outcome_high"),
    *("at_us", "rtt_p50_us", "rtt_p95_us", "usual_rtt_us", "loss_bp"),
)
"""Columns of a ranked path behind its ends, its letter and its rule."""


def start(fleet: Fleet) -> str:
    """Number the agents, then make empty tables."""
    words = ", ".join(text(word) for word in dict.fromkeys(word.value for word in _WORDS))
    types = ", ".join(f"{name} {_TYPES[name]}" for name in _KEPT if name != "position")
    sites = {name: number for number, name in enumerate(fleet.sites)}
    places = {number: place for place, number in enumerate(fleet.by_site)}
    agents = ", ".join(
        f"({number}, {text(name)}, {sites[site]}, {places[number]})"
        for number, (name, site) in enumerate(zip(fleet.agents, fleet.site_of, strict=True))
    )
    told_sites = ", ".join(
        f"({number}, {text(name)}, {text(region_of(name))})" for name, number in sites.items()
    )
    return f"""
    CREATE TABLE agents (number UINTEGER, name VARCHAR, site USMALLINT, place UINTEGER);
    {f"INSERT INTO agents VALUES {agents};" if agents else ""}
    CREATE TABLE sites (number USMALLINT, name VARCHAR, region VARCHAR);
    {f"INSERT INTO sites VALUES {told_sites};" if agents else ""}
    CREATE TYPE word AS ENUM ({words});
    CREATE MACRO placed(src, dst) AS src * {len(fleet.agents)}::UINTEGER + dst;
    CREATE TABLE newest (position UINTEGER, cycle BIGINT, usual_rtt_us BIGINT);
    CREATE TABLE unnarrowed (position UINTEGER, {types});
    CREATE TABLE latest AS SELECT {_KEPT_TEXT} FROM unnarrowed;
    """  # noqa: S608  # see above


NEWEST: Final = f"""
    CREATE OR REPLACE TABLE newest AS
    SELECT position, cycle, {rounded("middle")} AS usual_rtt_us FROM (
        SELECT position, max(cycle) AS cycle, quantile_cont(rtt_p50_us::UINTEGER, 0.5) AS middle
        FROM {_FACTS} GROUP BY position)
"""  # noqa: S608  # see above
"""The latest cycle of each path, and the median of its medians."""

FIRST_CYCLE: Final = "SELECT min(cycle) FROM newest"

LATEST_OF_NEWEST: Final = f"""
    CREATE OR REPLACE TABLE latest AS
    SELECT {_KEPT_TEXT} FROM (SELECT * FROM {_FACTS} WHERE cycle >= $first_cycle)
    SEMI JOIN newest USING (position, cycle)
"""  # noqa: S608  # see above

ARRIVED: Final = f"""
    CREATE OR REPLACE TABLE arrived AS
    SELECT {_KEPT_TEXT} FROM {_FACTS}
"""  # noqa: S608  # see above

RANKED_COLUMNS: Final = tuple(dict.fromkeys(("src", "dst", "test", *OWN, *LATEST_KEY)))
"""What the ranking takes of a reading."""
ARRIVED_TABLE: Final = f"""
    CREATE OR REPLACE TABLE arrived AS
    SELECT {_KEPT_TEXT} FROM {_PLACED.format("readings", "")}
"""  # noqa: S608  # see above

LATEST_WITH_ARRIVED: Final = """
    INSERT INTO arrived
    SELECT * FROM latest ANTI JOIN arrived
        ON arrived.position = latest.position AND arrived.cycle > latest.cycle;
    DROP TABLE latest;
    ALTER TABLE arrived RENAME TO latest;
"""
"""Both are kept where the order is not plain: of one cycle, or come late."""


def any_twice(fleet: Fleet) -> str:
    """Ask whether a path has two rows: a bit a position is quicker than groups."""
    last = max(1, len(fleet.agents) ** 2) - 1
    different = f"bit_count(bitstring_agg(position, 0::UINTEGER, {last}::UINTEGER))"
    return f"SELECT count(*) <> coalesce({different}, 0) FROM latest"  # noqa: S608  # see above


LATEST_ONLY: Final = f"""
    CREATE OR REPLACE TEMPORARY TABLE twice AS
    SELECT position FROM latest GROUP BY position HAVING count(*) > 1;
    CREATE OR REPLACE TABLE latest AS
    SELECT * FROM latest ANTI JOIN twice USING (position) UNION ALL
    SELECT * FROM (SELECT * FROM latest SEMI JOIN twice USING (position))
    QUALIFY row_number() OVER (PARTITION BY position ORDER BY {_LATEST_FIRST}) = 1
"""  # noqa: S608  # see above


def paths(rules: Rules, profiles: Sequence[str], fleet: Fleet, at_us: int) -> str:
    """Grade the latest reading of every path, by position."""
    size = len(fleet.agents)
    own = ", ".join(_wide("a", column) for column in OWN)
    back = ", ".join(_wide("b", column) for column in BACK)
    grades = grades_sql(rules, profiles, pairs="pairs", at_us=at_us, keep=("position", *PATH))
    return f"""
    CREATE OR REPLACE TABLE paths AS
    WITH pairs AS NOT MATERIALIZED (
        SELECT a.position AS position, {own}, {back}
        FROM latest AS a LEFT JOIN latest AS b
            ON b.position = (a.position % {size}) * {size} + a.position // {size} AND b.test = a.test
        WHERE a.position % {size} <> a.position // {size})
    SELECT graded.*, src.site AS src_site, dst.site AS dst_site, src.place * {size} + dst.place AS place
    FROM ({grades}) AS graded
    JOIN agents AS src ON src.number = position // {size} JOIN agents AS dst ON dst.number = position % {size}
    """  # noqa: S608  # see above


def _wide(side: str, column: str) -> str:
    """As the grades compute: in 64 bits, with sign."""
    kept = f"{side}.{column}"
    wide = f"{kept}::BIGINT" if _NARROW.get(column, "").endswith("::UINTEGER") else kept
    return f"{wide} AS {side}_{column}"


def of_sites(fleet: Fleet, wanted: Sequence[str]) -> str:
    """Only paths with an end at one of these sites; none named = all."""
    if not wanted:
        return "TRUE"
    listed = ", ".join(str(number) for number, name in enumerate(fleet.sites) if name in wanted) or "NULL"
    return f"(src_site IN ({listed}) OR dst_site IN ({listed}))"


def worst(p: str, *, better: int, where: str) -> str:
    """The first ``$limit`` paths in the order of a report; ``better`` is -1 where a higher outcome is.

    Only the paths with the worst letters are put in order, of as many letters as it takes.
    """
    known = f"coalesce(nullif({p}outcome, 0), {p}outcome_low, 0)"
    rank = case((f"{p}letter = {UNKNOWN}", "-1"), other=f"{p}letter")
    order = ", ".join(
        (
            f"{rank} DESC",
            f"{better} * {known} DESC",
            "coalesce(a_rtt_p50_us, 0) DESC",
            "position",
        )
    )
    chosen = f"""
    WITH counted AS (SELECT {rank} AS rank, count(*) AS paths FROM paths WHERE {where} GROUP BY rank),
    summed AS (SELECT rank, sum(paths) OVER (ORDER BY rank DESC) AS so_far FROM counted)
    SELECT * FROM paths
    WHERE {where} AND {rank} >= coalesce((SELECT max(rank) FROM summed WHERE so_far >= $limit), -1)
    ORDER BY {order} LIMIT $limit
    """  # noqa: S608  # see above
    return _ranked(p, chosen, order)


def of_agent(p: str, where: str) -> str:
    """Paths with positions from ``$first`` to ``$last``, in their order."""
    chosen = f"SELECT * FROM paths WHERE position BETWEEN $first AND $last AND {where}"  # noqa: S608  # see above
    return _ranked(p, chosen, "position")


def loss_bp(end: str) -> str:
    """Loss of a direction in basis points: ``a`` there, ``b`` back; NULL where nothing was sent."""
    return case((f"{end}_sent > 0", rounded(f"(10000 * {end}_lost / {as_real(f'{end}_sent')})")))


def _ranked(p: str, chosen: str, order: str) -> str:
    grade = ", ".join(f"{p}{column}" for column in GRADE[1:])
    return f"""
    SELECT position, {p}letter, none_rule, {grade},
        ended_or_begun_us, a_rtt_p50_us, a_rtt_p95_us, usual_rtt_us, {loss_bp("a")}
    FROM ({chosen}) LEFT JOIN newest USING (position) ORDER BY {order}
    """  # noqa: S608  # see above


def site_pairs(prefixes: Sequence[str]) -> str:
    """Keep counts by pair of sites, for all profiles: a page asks more often than paths are graded."""
    counts = ", ".join(
        f"count_if({p}letter >= {CANNOT} AND {p}letter <> {UNKNOWN}) AS {p}cannot, "
        f"count_if({p}letter = {UNKNOWN}) AS {p}unknown"
        for p in prefixes
    )
    return f"""
    CREATE OR REPLACE TABLE site_pairs AS
    SELECT src_site, dst_site, count(*) AS paths, quantile_disc(a_rtt_p50_us, 0.5) AS rtt_p50_us, {counts}
    FROM paths GROUP BY src_site, dst_site ORDER BY src_site, dst_site
    """  # noqa: S608  # see above


def sites(p: str, where: str) -> str:
    """Counts by pair of sites, as kept."""
    return f"""
    SELECT src_site, dst_site, paths, {p}cannot, {p}unknown, rtt_p50_us
    FROM site_pairs WHERE {where} ORDER BY src_site, dst_site
    """  # noqa: S608  # see above


def letters(chosen: Mapping[str, str]) -> str:
    """Codes of the letters by position, and ``UNRANKED`` where a profile is not for the path.

    ``chosen`` has the condition of each profile's prefix.
    """
    columns = ", ".join(
        f"{case((where, f'{p}letter'), other=str(UNRANKED))}::UTINYINT AS {p}letter"
        for p, where in chosen.items()
    )
    return f"SELECT position, {columns} FROM paths ORDER BY position"  # noqa: S608  # see above
