"""The text of what is asked of all paths at once: arrays for pages, pairs of sites, what crosses each part.

As in ``questions.py``: names are constants, numbers are the fleet's; the rest is parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from analytics.letters import CANNOT
from analytics.overview import PACKINGS, RUNGS, Metric, Packing
from analytics.ranking.dense import FORMATS, MOST_OUTCOME, NO_OUTCOME
from analytics.ranking.questions import UNRANKED, loss_bp
from analytics.sql.text import UNKNOWN, case, text

_CELLS: Final = {"B": "UTINYINT", "H": "USMALLINT", "I": "UINTEGER"}
"""Type of each format."""


def dense(chosen: Mapping[str, str], size: int, at_us: int) -> str:
    """Numbers of all pairs of agents, by place: row after row of a matrix, what is not known too.

    ``chosen`` as for ``letters``.
    """
    letter = (
        f"coalesce({case((where, f'{p}letter'), other=str(UNRANKED))}, {UNRANKED})::UTINYINT AS {p}letter"
        for p, where in chosen.items()
    )
    outcome = (f"coalesce({_bounded(f'{p}outcome')}, {NO_OUTCOME})::INTEGER AS {p}outcome" for p in chosen)
    rungs = case(*((f"a_rung = {text(rung.value)}", str(code)) for code, rung in enumerate(RUNGS)))
    numbers = {
        Metric.RTT: "a_rtt_p50_us",
        Metric.LOSS: loss_bp("a"),
        Metric.LOSS_BACK: loss_bp("b"),
        Metric.RUNG: rungs,
        Metric.AGE: f"({at_us} - ended_or_begun_us) // 1000000",
    }
    cells = (f"{_cell(told, PACKINGS[metric])} AS {metric.name}" for metric, told in numbers.items())
    return f"""
    SELECT {", ".join((*letter, *outcome, *cells))}
    FROM (SELECT range AS place FROM range({size * size})) AS every LEFT JOIN paths USING (place)
    ORDER BY every.place
    """  # noqa: S608  # see above


def _bounded(outcome: str) -> str:
    return case(
        (f"{outcome} > {MOST_OUTCOME}", str(MOST_OUTCOME)),
        (f"{outcome} < -{MOST_OUTCOME}", str(-MOST_OUTCOME)),
        other=outcome,
    )


def _cell(told: str, packing: Packing) -> str:
    # Not least(told, most): DuckDB leaves NULL out there.
    bounded = case((f"{told} > {packing.most}", str(packing.most)), other=f"coalesce({told}, {packing.none})")
    return f"{bounded}::{_CELLS[FORMATS[packing.cell_bytes]]}"


def site_paths(p: str, where: str, most: int) -> str:
    """Counts by pair of sites with the rungs in use, most that cannot first."""
    rungs = ", ".join(f"count_if(a_rung = {text(rung.value)}) AS rung_{at}" for at, rung in enumerate(RUNGS))
    return f"""
    SELECT a.name, b.name, paths, cannot, unknown, rtt, {", ".join(f"rung_{at}" for at in range(len(RUNGS)))}
    FROM (
        SELECT src_site, dst_site, count(*) AS paths,
            count_if({p}letter >= {CANNOT} AND {p}letter <> {UNKNOWN}) AS cannot,
            count_if({p}letter = {UNKNOWN}) AS unknown,
            quantile_disc(a_rtt_p50_us, 0.5) AS rtt, {rungs}
        FROM paths WHERE {where} GROUP BY src_site, dst_site)
    JOIN sites AS a ON a.number = src_site JOIN sites AS b ON b.number = dst_site
    ORDER BY cannot DESC, a.name, b.name LIMIT {most}
    """  # noqa: S608  # see above


# What crosses each part that may be at fault (``analytics/tomography.py``), of all paths but the bad ones
# that are not looked at: those say nothing for a part, nor against it.


def counted(p: str, where: str, size: int) -> str:
    """Choose the paths, given positions in ``looked``; and count them by pair of sites."""
    return f"""
    CREATE OR REPLACE TEMPORARY TABLE counted AS
    SELECT position // {size} AS src, position % {size} AS dst, src_site, dst_site,
        starts_with(a_rung::VARCHAR, 'relay') AS relayed
    FROM paths WHERE {where} AND ({p}letter < {CANNOT} OR {p}letter = {UNKNOWN}
        OR position IN (SELECT position FROM looked));
    CREATE OR REPLACE TEMPORARY TABLE between_sites AS
    SELECT src_site, dst_site, count(*) AS n, count_if(relayed) AS relayed
    FROM counted WHERE src_site <> dst_site GROUP BY ALL
    """  # noqa: S608  # see above


OF_HOSTS: Final = """
    SELECT name, count(*) FROM (SELECT src AS number FROM counted UNION ALL SELECT dst FROM counted)
    JOIN agents USING (number) GROUP BY name
"""
OF_UPLINKS: Final = """
    SELECT name, sum(n)::BIGINT
    FROM (SELECT src_site AS number, n FROM between_sites UNION ALL SELECT dst_site, n FROM between_sites)
    JOIN sites USING (number) GROUP BY name
"""
OF_RELAY: Final = "SELECT '', sum(relayed)::BIGINT FROM between_sites HAVING sum(relayed) > 0"
OF_REGIONS: Final = """
    WITH told AS (
        SELECT a.region AS here, b.region AS there, n FROM between_sites
        JOIN sites AS a ON a.number = src_site JOIN sites AS b ON b.number = dst_site
        WHERE a.region <> b.region)
    SELECT region, sum(n)::BIGINT
    FROM (SELECT here AS region, n FROM told UNION ALL SELECT there, n FROM told)
    WHERE region <> '' GROUP BY region
"""
OF_TRANSIT: Final = """
    WITH wanted AS (
        SELECT DISTINCT least(a.site, b.site) AS one, greatest(a.site, b.site) AS other FROM looked
        JOIN agents AS a ON a.number = position // $size JOIN agents AS b ON b.number = position % $size),
    ways AS (
        SELECT least(src_site, dst_site) AS one, greatest(src_site, dst_site) AS other, sum(n - relayed) AS n
        FROM between_sites GROUP BY ALL)
    SELECT a.name || ' and ' || b.name, n::BIGINT FROM ways SEMI JOIN wanted USING (one, other)
    JOIN sites AS a ON a.number = one JOIN sites AS b ON b.number = other WHERE n > 0
"""
"""Sites are numbered by name, so the lesser number is the first name; of the ways that are looked at only."""
