"""The same question put to pandas, polars and SQLite; a process each; prints JSON.

``python -m benches.rank_peers TOOL AGENTS FILE ...``. The question: of each directed path the latest
reading, the median of its medians, and the letter of the profile ``generic`` by both directions; then the
worst hundred, and counts by pair of sites. What a tool reads Parquet with is its own; SQLite cannot, and
is given the rows.
"""

from __future__ import annotations

import json
import math
import sqlite3
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from analytics.evidence import Z_90
from analytics.measurement import Rung
from analytics.rules.load import ResponseProfile, load_rules
from benches import rank_facts
from benches.rank_product import peak_mb

RULES: Final = load_rules()
_profile: Final = RULES.profile("generic")
assert isinstance(_profile, ResponseProfile)
PROFILE: Final = _profile
Z2: Final = Z_90**2
COLUMNS: Final = [
    *("src", "dst", "test", "cycle", "started_us", "ended_us", "received_us", "batch"),
    *("rung", "error", "sent", "received", "rtt_n", "rtt_p50_us", "rtt_p90_us", "rtt_p95_us", "rtt_p99_us"),
]
NEWEST: Final = ["cycle", "ended_us", "received_us", "batch"]
UNKNOWN, UNREACHABLE = 6, 5
LETTERS: Final = "ABCDFX?"


def with_pandas(files: list[Path], agents: int) -> dict[str, Any]:
    """Ask pandas, over Arrow's Parquet reader."""
    import numpy as np  # noqa: PLC0415  # each process loads its own tool
    import pandas as pd  # noqa: PLC0415  # see above

    began = time.perf_counter()
    facts = pd.concat([pd.read_parquet(file, columns=COLUMNS) for file in files], ignore_index=True)
    facts["src"], facts["dst"] = facts["src"].astype("category"), facts["dst"].astype("category")
    usual = facts.groupby(["src", "dst"], observed=True)["rtt_p50_us"].median()
    latest = facts.sort_values(NEWEST).drop_duplicates(["src", "dst"], keep="last")
    back = latest[
        ["src", "dst", "test", "sent", "received", "rtt_n", "rtt_p90_us", "rtt_p95_us", "rtt_p99_us"]
    ]
    back = back.rename(columns={"src": "dst", "dst": "src"}).add_suffix("_b")
    paths = latest.merge(
        back, how="left", left_on=["src", "dst", "test"], right_on=["src_b", "dst_b", "test_b"]
    )
    known, known_b = paths["rtt_n"] >= RULES.samples.rtt_p95_n, paths["rtt_n_b"] >= RULES.samples.rtt_p95_n

    def percentile(name: str) -> Any:
        return paths[name].where(known, paths[f"{name}_b"].where(known_b))

    middle = percentile("rtt_p95_us")
    rtt = {
        "value": middle,
        "low": np.minimum(percentile("rtt_p90_us"), middle),
        "high": np.maximum(percentile("rtt_p99_us"), middle),
    }
    sent_b = paths["sent_b"].fillna(0)
    share = ((paths["sent"] - paths["received"]).clip(lower=0) / paths["sent"]).fillna(0)
    share_b = ((sent_b - paths["received_b"].fillna(0)).clip(lower=0) / sent_b).fillna(0)
    of_b = (sent_b > 0) & ((paths["sent"] == 0) | (share_b > share))
    n, p = np.where(of_b, sent_b, paths["sent"]), np.where(of_b, share_b, share)
    loss = _wilson(np, n, p)

    def rank(part: str) -> Any:
        by_rtt = np.searchsorted(PROFILE.most_rtt_p95_us, rtt[part].fillna(0), side="left")
        return np.maximum(by_rtt, np.searchsorted(PROFILE.most_loss_bp, 10_000 * loss[part], side="left"))

    best, letter, worst = rank("low"), rank("value"), rank("high")
    begun = paths["cycle"] * 1_000_000
    own = (begun <= paths["ended_us"]) & (paths["ended_us"] <= rank_facts.AT_US)
    took = (paths["ended_us"] - paths["started_us"]).clip(lower=0)
    at = paths["ended_us"].where(own, np.minimum(rank_facts.AT_US, begun + took))
    stale = rank_facts.AT_US - at > RULES.stale_after_s * 1_000_000
    withheld = middle.isna() | ((sent_b == 0) & (best < 3)) | (worst - best >= 2)
    paths["letter"] = np.select(
        [stale | (paths["error"] != ""), paths["rung"] == Rung.NONE.value, withheld],
        [UNKNOWN, UNREACHABLE, UNKNOWN],
        letter,
    )
    paths["outcome"] = middle.where(paths["letter"] < UNREACHABLE)
    paths["order"] = np.where(paths["letter"] == UNKNOWN, -1, paths["letter"])
    paths.nlargest(100, ["order", "outcome", "rtt_p50_us"]).merge(usual.rename("usual"), on=["src", "dst"])
    codes = paths["src"].cat.codes.to_numpy(), paths["dst"].cat.codes.to_numpy()
    site = [code.astype("int64") * rank_facts.SITES // agents for code in codes]
    paths["src_site"], paths["dst_site"], paths["cannot"] = site[0], site[1], paths["letter"].between(3, 5)
    paths.groupby(["src_site", "dst_site"]).agg(
        paths=("cannot", "size"), cannot=("cannot", "sum"), rtt=("rtt_p50_us", "median")
    )
    seconds = time.perf_counter() - began
    return _told(seconds, agents, zip(paths["src"], paths["dst"], paths["letter"], strict=True))


def with_polars(files: list[Path], agents: int) -> dict[str, Any]:
    """Ask polars, lazily: it chooses the columns and the order itself."""
    import polars as pl  # noqa: PLC0415  # each process loads its own tool

    began = time.perf_counter()
    facts = pl.scan_parquet(list(map(str, files)), hive_partitioning=False).select(COLUMNS)
    usual = facts.group_by("src", "dst").agg(
        pl.col("rtt_p50_us").median().alias("usual"), pl.col("cycle").max().alias("last")
    )
    latest = (
        facts.join(usual, left_on=["src", "dst", "cycle"], right_on=["src", "dst", "last"])
        .sort(NEWEST)
        .unique(["src", "dst"], keep="last")
    )
    back = latest.select(pl.all().name.suffix("_b"))
    least = RULES.samples.rtt_p95_n

    def percentile(name: str) -> Any:
        return (
            pl.when(pl.col("rtt_n") >= least)
            .then(pl.col(name))
            .when(pl.col("rtt_n_b") >= least)
            .then(pl.col(f"{name}_b"))
        )

    paths = latest.join(
        back, how="left", left_on=["src", "dst", "test"], right_on=["dst_b", "src_b", "test_b"]
    )
    paths = paths.with_columns(
        value=percentile("rtt_p95_us"),
        p90=percentile("rtt_p90_us"),
        p99=percentile("rtt_p99_us"),
        sent_b=pl.col("sent_b").fill_null(0),
        share=((pl.col("sent") - pl.col("received")).clip(0) / pl.col("sent")).fill_nan(0),
        share_b=((pl.col("sent_b") - pl.col("received_b")).clip(0) / pl.col("sent_b"))
        .fill_nan(0)
        .fill_null(0),
    )
    of_b = (pl.col("sent_b") > 0) & ((pl.col("sent") == 0) | (pl.col("share_b") > pl.col("share")))
    paths = paths.with_columns(
        low=pl.min_horizontal("p90", "value"),
        high=pl.max_horizontal("p99", "value"),
        n=pl.when(of_b).then(pl.col("sent_b")).otherwise(pl.col("sent")).cast(pl.Float64),
        p=pl.when(of_b).then(pl.col("share_b")).otherwise(pl.col("share")),
    )
    n, p = pl.col("n"), pl.col("p")
    centre = (p + Z2 / (2 * n)) / (1 + Z2 / n)
    half = Z_90 / (1 + Z2 / n) * (p * (1 - p) / n + Z2 / (4 * n * n)).sqrt()
    loss = {
        "value": p,
        "low": pl.when((p == 0) | (n == 0)).then(0.0).otherwise((centre - half).clip(0)),
        "high": pl.when(n == 0).then(1.0).otherwise(pl.min_horizontal(centre + half, 1.0)),
    }

    def rank(part: str) -> Any:
        by_rtt = sum((pl.col(part) > most).cast(pl.Int8) for most in PROFILE.most_rtt_p95_us)
        by_loss = sum((10_000 * loss[part] > most).cast(pl.Int8) for most in PROFILE.most_loss_bp)
        return pl.max_horizontal(by_rtt, by_loss)

    paths = paths.with_columns(best=rank("low"), middle=rank("value"), worst=rank("high"))
    begun = pl.col("cycle") * 1_000_000
    own = (begun <= pl.col("ended_us")) & (pl.col("ended_us") <= rank_facts.AT_US)
    took = (pl.col("ended_us") - pl.col("started_us")).clip(0)
    at = (
        pl.when(own)
        .then(pl.col("ended_us"))
        .otherwise(pl.min_horizontal(begun + took, pl.lit(rank_facts.AT_US)))
    )
    stale = rank_facts.AT_US - at > RULES.stale_after_s * 1_000_000
    withheld = (
        pl.col("value").is_null()
        | ((pl.col("sent_b") == 0) & (pl.col("best") < 3))
        | (pl.col("worst") - pl.col("best") >= 2)
    )
    graded = (
        paths.with_columns(
            letter=pl.when(stale | (pl.col("error") != ""))
            .then(UNKNOWN)
            .when(pl.col("rung") == Rung.NONE.value)
            .then(UNREACHABLE)
            .when(withheld)
            .then(UNKNOWN)
            .otherwise(pl.col("middle"))
        )
        .with_columns(order=pl.when(pl.col("letter") == UNKNOWN).then(-1).otherwise(pl.col("letter")))
        .collect()
    )
    graded.top_k(100, by=["order", "value", "rtt_p50_us"])
    number = [pl.col(end).str.slice(6).cast(pl.Int64) * rank_facts.SITES // agents for end in ("src", "dst")]
    graded.with_columns(src_site=number[0], dst_site=number[1]).group_by("src_site", "dst_site").agg(
        pl.len(), pl.col("letter").is_between(3, 5).sum(), pl.col("rtt_p50_us").median()
    )
    seconds = time.perf_counter() - began
    return _told(seconds, agents, graded.select("src", "dst", "letter").iter_rows())


def with_sqlite(files: list[Path], agents: int) -> dict[str, Any]:
    """SQLite in memory; the rows are put in first, which is told apart."""
    import pyarrow.parquet as pq  # noqa: PLC0415  # each process loads its own tool

    began = time.perf_counter()
    database = sqlite3.connect(":memory:")
    database.create_function("root", 1, math.sqrt, deterministic=True)
    database.execute(f"CREATE TABLE facts ({', '.join(COLUMNS)})")
    for file in files:
        columns = pq.read_table(file, columns=COLUMNS, partitioning=None).select(COLUMNS).to_pydict().values()
        database.executemany(
            f"INSERT INTO facts VALUES ({', '.join('?' * len(COLUMNS))})", zip(*columns, strict=True)
        )
    loaded = time.perf_counter()
    database.executescript(_sqlite_script(agents))
    database.execute(
        "SELECT * FROM paths ORDER BY rank DESC, outcome DESC, rtt_p50_us DESC LIMIT 100"
    ).fetchall()
    database.execute(
        "SELECT src_site, dst_site, count(*), sum(letter BETWEEN 3 AND 5), avg(rtt_p50_us) "
        "FROM paths GROUP BY 1, 2"
    ).fetchall()
    seconds = time.perf_counter() - loaded
    told = _told(seconds, agents, database.execute("SELECT src, dst, letter FROM paths"))
    return {**told, "load_s": loaded - began}


def _sqlite_script(agents: int) -> str:
    def rank(part: str) -> str:
        rtt = " + ".join(f"({part} > {most})" for most in PROFILE.most_rtt_p95_us)
        loss = " + ".join(f"(10000 * loss_{part} > {most})" for most in PROFILE.most_loss_bp)
        return f"max({rtt}, {loss})"

    least, at_us = RULES.samples.rtt_p95_n, rank_facts.AT_US

    def percentile(name: str) -> str:
        return f"CASE WHEN a.rtt_n >= {least} THEN a.{name} WHEN b.rtt_n >= {least} THEN b.{name} END"

    return f"""
    CREATE TABLE usual AS SELECT src, dst, avg(rtt_p50_us) AS usual FROM (
        SELECT src, dst, rtt_p50_us, row_number() OVER (PARTITION BY src, dst ORDER BY rtt_p50_us) AS at,
            count(*) OVER (PARTITION BY src, dst) AS n FROM facts)
        WHERE at IN ((n + 1) / 2, n / 2 + 1) GROUP BY src, dst;
    CREATE TABLE latest AS SELECT * FROM (SELECT *, row_number() OVER (
        PARTITION BY src, dst ORDER BY {", ".join(f"{name} DESC" for name in NEWEST)}) AS age FROM facts)
        WHERE age = 1;
    CREATE UNIQUE INDEX latest_of ON latest (src, dst);
    CREATE TABLE paths AS
    WITH ends AS (
        SELECT a.*, coalesce(b.sent, 0) AS sent_b, {percentile("rtt_p95_us")} AS value,
            {percentile("rtt_p90_us")} AS p90, {percentile("rtt_p99_us")} AS p99,
            CASE WHEN a.sent > 0 THEN max(0, a.sent - a.received) * 1.0 / a.sent ELSE 0 END AS share,
            CASE WHEN b.sent > 0 THEN max(0, b.sent - b.received) * 1.0 / b.sent ELSE 0 END AS share_b
        FROM latest AS a LEFT JOIN latest AS b ON b.src = a.dst AND b.dst = a.src AND b.test = a.test),
    worse AS (
        SELECT *, min(value, p90) AS low, max(value, p99) AS high,
            (sent_b > 0 AND (sent = 0 OR share_b > share)) AS of_b
        FROM ends),
    counts AS (
        SELECT *, CASE WHEN of_b THEN sent_b ELSE sent END * 1.0 AS n,
            CASE WHEN of_b THEN share_b ELSE share END AS p
        FROM worse),
    wilson AS (
        SELECT *, (p + {Z2!r} / (2 * n)) / (1 + {Z2!r} / n) AS centre,
            {Z_90!r} / (1 + {Z2!r} / n) * root(p * (1 - p) / n + {Z2!r} / (4 * n * n)) AS half FROM counts),
    losses AS (
        SELECT *, p AS loss_value, CASE WHEN p = 0 OR n = 0 THEN 0 ELSE max(0, centre - half) END AS loss_low,
            CASE WHEN n = 0 THEN 1 ELSE min(1, centre + half) END AS loss_high FROM wilson),
    ranks AS (
        SELECT *, {rank("low")} AS best, {rank("value")} AS middle, {rank("high")} AS worst,
            CASE WHEN cycle * 1000000 <= ended_us AND ended_us <= {at_us} THEN ended_us
                ELSE min({at_us}, cycle * 1000000 + max(0, ended_us - started_us)) END AS at FROM losses),
    letters AS (
        SELECT *, CASE WHEN {at_us} - at > {RULES.stale_after_s * 1_000_000} OR error <> '' THEN {UNKNOWN}
            WHEN rung = '{Rung.NONE.value}' THEN {UNREACHABLE}
            WHEN value IS NULL OR (sent_b = 0 AND best < 3) OR worst - best >= 2 THEN {UNKNOWN}
            ELSE middle END AS letter FROM ranks)
    SELECT src, dst, letter, CASE letter WHEN {UNKNOWN} THEN -1 ELSE letter END AS rank, value AS outcome,
        rtt_p50_us,
        usual, CAST(substr(src, 7) AS INTEGER) * {rank_facts.SITES} / {agents} AS src_site,
        CAST(substr(dst, 7) AS INTEGER) * {rank_facts.SITES} / {agents} AS dst_site
    FROM letters LEFT JOIN usual USING (src, dst);
    """


def _wilson(np: Any, n: Any, p: Any) -> dict[str, Any]:
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (p + Z2 / (2 * n)) / (1 + Z2 / n)
        half = Z_90 / (1 + Z2 / n) * np.sqrt(p * (1 - p) / n + Z2 / (4 * n * n))
    low = np.where((p == 0) | (n == 0), 0, np.maximum(0, centre - half))
    return {"value": p, "low": low, "high": np.where(n == 0, 1, np.minimum(1, centre + half))}


def _told(seconds: float, agents: int, letters: Iterable[tuple[str, str, int]]) -> dict[str, Any]:
    """With the letters as a matrix, as the product has it."""
    peak, laid = peak_mb(), bytearray(b" " * agents * agents)
    for src, dst, code in letters:
        laid[int(src[6:]) * agents + int(dst[6:])] = ord(LETTERS[code])
    return {"seconds": seconds, "peak_mb": peak, "letters": laid.decode()}


TOOLS: Final = {"pandas": with_pandas, "polars": with_polars, "sqlite": with_sqlite}

if __name__ == "__main__":
    _, told_tool, told_agents, *told_files = sys.argv
    print(json.dumps(TOOLS[told_tool](list(map(Path, told_files)), int(told_agents))))
