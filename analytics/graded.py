"""The letters of a service's tests over a time, graded by SQL: what the SLA report counts.

As ``analytics/exports.py`` grades each test at its end, and as ``analytics/grade.py`` does one at a time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import duckdb
import pyarrow as pa

from analytics.clock import DAY_US
from analytics.grade import TEST_MOST_US
from analytics.rules.load import Rules
from analytics.sql.grades import BACK, OWN, grades_sql, prefix
from analytics.sql.text import CODES, case
from analytics.store.store import Store
from analytics.stretches import Graded

_COLUMNS: Final = tuple(dict.fromkeys(("cycle", "test", "src", "dst", *OWN)))
_BEGIN: Final = "a.cycle * 1000000"
_MOST: Final = f"({_BEGIN} + {TEST_MOST_US})"
_ENDED: Final = case(
    (f"{_BEGIN} <= a.ended_us AND a.ended_us <= {_MOST}", "a.ended_us"),
    other=f"least({_MOST}, {_BEGIN} + greatest(0, a.ended_us - a.started_us))",
)
"""As ``grade.ended_us``."""


class Way(NamedTuple):
    """Whose tests: those from a service's agent to anyone who uses it."""

    tenant: str
    agent: str
    profile: str


def graded(store: Store, way: Way, rules: Rules, since_us: int, until_us: int) -> dict[str, list[Graded]]:
    """Grade every test that ended in a time, by workplace and time. Raises ``StoreError``, ``RulesError``."""
    found: dict[str, list[Graded]] = {}
    question = _question(way, rules)
    with duckdb.connect(":memory:", config={"threads": 2}) as database:
        for first_us in range(since_us, until_us, AT_ONCE_US):
            last_us = min(until_us, first_us + AT_ONCE_US)
            given = {"agent": way.agent, "since_us": first_us, "until_us": last_us}
            tests = _tests(store, way, first_us, last_us)
            if not tests.num_rows:
                continue  # to plan the question takes as long as to grade a day
            database.register("tests", tests)
            database.register("signed", _signed(store, way, first_us, last_us))
            for dst, at_us, code, sent, signed in database.execute(question, given).fetchall():
                found.setdefault(dst, []).append(Graded(at_us, CODES[code], sent, signed))
    return found


AT_ONCE_US: Final = 5 * DAY_US
"""Of 50 workplaces, 150,000 tests."""


def _tests(store: Store, way: Way, since_us: int, until_us: int) -> pa.Table:
    return store.readings_of_agent(
        way.tenant, way.agent, since_us=since_us, until_us=until_us, columns=_COLUMNS
    )


def _signed(store: Store, way: Way, since_us: int, until_us: int) -> pa.Table:
    return store.signed_by_both(way.tenant, way.agent, since_us=since_us, until_us=until_us)


def _question(way: Way, rules: Rules) -> str:
    """Put both directions of each test beside each other, and grade the one that carries the payload."""
    own = ", ".join(f"a.{column} AS a_{column}" for column in OWN)
    back = ", ".join(f"b.{column} AS b_{column}" for column in BACK)
    pairs = f"""(SELECT a.src AS src, a.dst AS dst, {_ENDED} AS at_us, {own}, {back},
            s.test IS NOT NULL AS signed
        FROM tests AS a LEFT JOIN tests AS b
            ON b.cycle = a.cycle AND b.test = a.test AND b.src = a.dst AND b.dst = a.src
            LEFT JOIN signed AS s
            ON s.cycle = a.cycle AND s.test = a.test AND s.src = a.src AND s.dst = a.dst
        WHERE a.src = $agent AND a.dst <> $agent) AS pairs"""  # noqa: S608  # names of columns only
    keep = ("dst", "at_us", "a_sent", "signed")
    letters = grades_sql(rules, [way.profile], pairs=pairs, at_us="at_us", keep=keep)
    letter = f"{prefix([way.profile], way.profile)}letter"
    return f"""SELECT dst, at_us, {letter}, a_sent, signed FROM ({letters}) AS graded
        WHERE at_us >= $since_us AND at_us < $until_us ORDER BY at_us, dst"""  # noqa: S608  # see above
