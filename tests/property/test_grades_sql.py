"""The same over whatever numbers a reading may hold."""

from __future__ import annotations

import duckdb
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.grade import grade
from analytics.measurement import CapacityTrust, Reading, Rung
from analytics.rules.load import load_rules
from analytics.sql.grades import GRADE, grades_sql
from analytics.sql.text import CODES
from tests.unit.analytics.facts import AT_US, reading
from tests.unit.analytics.many_readings import RTTS, table

RULES = load_rules()
NAMES = list(RULES.profiles)
COUNTS = st.integers(0, 2_000)
TIMES = st.integers(0, 3_600_000_000)


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    rtts = sorted(draw(st.lists(st.one_of(TIMES, st.integers(0, 400_000)), min_size=6, max_size=6)))
    cycle = AT_US // 1_000_000 - draw(st.integers(0, 1_000))
    sent = draw(COUNTS)
    return reading(
        cycle=cycle,
        started_us=draw(st.integers(0, 2 * AT_US)),
        ended_us=draw(st.one_of(st.integers(0, 2 * AT_US), st.integers(AT_US - 10**9, AT_US + 10))),
        rung=draw(st.sampled_from(Rung)),
        error=draw(st.sampled_from(["", "", "", "it's broken"])),
        sent=sent,
        received=max(0, sent - draw(st.one_of(st.just(0), st.integers(0, 20), COUNTS))),
        rtt_n=draw(COUNTS),
        **dict(zip(RTTS, rtts, strict=True)),
        capacity_kbps=draw(st.one_of(st.none(), st.integers(0, 2**40))),
        capacity_trust=draw(st.sampled_from(CapacityTrust)),
    )


@given(
    name=st.sampled_from(NAMES),
    ends=st.lists(st.tuples(readings(), st.one_of(st.none(), readings())), min_size=1),
)
@settings(max_examples=30)
def test_sql_grades_as_python_does(name: str, ends: list[tuple[Reading, Reading | None]]) -> None:
    numbered = [(msgspec.structs.replace(own, src=f"a{at}"), back) for at, (own, back) in enumerate(ends)]
    with duckdb.connect(config={"threads": 1}) as database:
        database.register("pairs", table(numbered))
        answer = database.execute(grades_sql(RULES, [name], pairs="pairs", at_us=AT_US)).to_arrow_table()
    rows = {row["src"]: row for row in answer.to_pylist()}
    assert len(rows) == len(numbered)
    for own, back in numbered:
        one, row = grade(own, back, name, RULES, AT_US), rows[own.src]
        letter, *numbers = (row[f"g0_{column}"] for column in GRADE)
        assert (CODES[letter], *numbers) == (one.letter, one.outcome, one.outcome_low, one.outcome_high)
        assert (row["none_rule"] or RULES.profile(name).rule) == one.rule
