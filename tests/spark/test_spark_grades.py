"""Spark SQL gives every grade that DuckDB gives: the same text over the same files of the store."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from pyspark.sql import SparkSession

from analytics.rules.load import load_rules
from analytics.sql.grades import GRADE, grades_sql, latest_sql, pairs_sql, prefix
from analytics.store.store import Store
from tests.unit.analytics.facts import AT_US, body, put
from tests.unit.analytics.many_readings import one

pytestmark = pytest.mark.spark
RULES = load_rules()
NAMES = list(RULES.profiles)
AGENTS = [f"h{number:03d}" for number in range(100)]


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    made = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "2g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    yield made
    made.stop()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two cycles of a fleet of a hundred, of which the second is not whole."""
    folder, draw = tmp_path_factory.mktemp("facts"), random.Random(20261125)
    with closing(Store.open(folder, clock_us=lambda: AT_US)) as store:
        for batch, before_s in enumerate((300, 0), start=1):
            for src in AGENTS:
                rows = []
                for dst in AGENTS:
                    if src != dst and (before_s or draw.random() < 0.9):
                        told = one(draw, src, dst, tidy=draw.random() < 0.7)
                        test = f"{before_s}-{'-'.join(sorted((src, dst)))}"
                        rows.append(msgspec.structs.replace(told, test=test, cycle=told.cycle - before_s))
                assert put(store, body(src, batch, readings=rows)) == [True]
            store.seal()
    return sorted(map(str, Path(folder).rglob("*.parquet")))


def rows(answer: Any) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {(row[0], row[1]): tuple(row[2:]) for row in answer}


def test_every_grade_is_the_same_in_both_engines(spark: SparkSession, files: list[str]) -> None:
    latest, pairs = latest_sql("facts", at_us=AT_US), pairs_sql("latest")
    graded = grades_sql(RULES, NAMES, pairs="pairs", at_us=AT_US)
    with duckdb.connect() as database:
        database.execute(
            f"CREATE VIEW facts AS SELECT * FROM read_parquet({files}, hive_partitioning = false)"
        )
        database.execute(f"CREATE VIEW latest AS {latest}")
        database.execute(f"CREATE TABLE pairs AS {pairs}")
        by_duckdb = rows(database.execute(graded).fetchall())
    spark.read.parquet(*files).createOrReplaceTempView("facts")
    spark.sql(latest).createOrReplaceTempView("latest")
    spark.sql(pairs).createOrReplaceTempView("pairs")
    by_spark = rows(spark.sql(graded).collect())
    assert len(by_duckdb) == 100 * 99
    different = [pair for pair, told in by_duckdb.items() if by_spark.get(pair) != told]
    assert (len(by_spark), different) == (len(by_duckdb), [])
    letters = {told[1 + at * len(GRADE)] for told in by_spark.values() for at in range(len(NAMES))}
    assert prefix(NAMES, NAMES[0]) == "g0_"
    assert letters == set(range(7))  # every letter is among them
