"""SQL and Python give the same letter, outcome, bounds and rule, for every reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import duckdb
import msgspec
import pytest

from analytics.grade import grade
from analytics.measurement import Letter
from analytics.rules.load import Rules, StudyProfile, load_rules
from analytics.sql.grades import GRADE, grades_sql, latest_sql, letter_sql, pairs_sql, prefix
from analytics.sql.text import CODES
from analytics.tcp_rates import Sender
from tests.unit.analytics.facts import AT_US, reading
from tests.unit.analytics.many_readings import Ends, many, table

RULES = load_rules()
Told = tuple[str, int | None, int | None, int | None, str]


def by_python(ends: Sequence[Ends], profile: str, rules: Rules) -> dict[str, Told]:
    found = {}
    for own, back in ends:
        one = grade(own, back, profile, rules, AT_US)
        found[own.src] = (one.letter.value, one.outcome, one.outcome_low, one.outcome_high, one.rule)
    return found


def by_sql(ends: Sequence[Ends], rules: Rules) -> dict[str, dict[str, Told]]:
    names = list(rules.profiles)
    with duckdb.connect() as database:
        database.register("pairs", table(ends))
        answer = database.execute(grades_sql(rules, names, pairs="pairs", at_us=AT_US))
        rows = answer.to_arrow_table().to_pylist()
    found: dict[str, dict[str, Told]] = {name: {} for name in names}
    for row in rows:
        for name in names:
            letter, *numbers = (row[f"{prefix(names, name)}{column}"] for column in GRADE)
            rule = row["none_rule"] or rules.profile(name).rule
            found[name][row["src"]] = (CODES[letter].value, *numbers, rule)
    return found


def changed(**fields: object) -> Rules:
    """The rules with another study in place of the CT."""
    pacs = RULES.profiles["pacs"]
    assert isinstance(pacs, StudyProfile)
    study = msgspec.structs.replace(pacs.study, **fields)
    profiles = {"pacs": msgspec.structs.replace(pacs, study=study)}
    return msgspec.structs.replace(RULES, profiles=profiles)


def test_eight_thousand_random_readings_have_the_same_grade_in_every_profile() -> None:
    ends = many(8_000, seed=20261125)
    found = by_sql(ends, RULES)
    for name, told in found.items():
        expected = by_python(ends, name, RULES)
        assert told == expected
        letters = Counter(one[0] for one in expected.values())
        assert set(letters) == {letter.value for letter in Letter}, name  # else the readings test too little


@pytest.mark.parametrize(
    "study",
    [
        {"sender": Sender.BBR},
        {"sender": Sender.CUBIC, "images": 1, "image_bytes": 1_000},
        {"images": 3, "image_bytes": 14_480, "setup_us": 1},
        {"images": 700, "image_bytes": 40_000_000},
        {"images": 20, "connections": 6},
        {"images": 20, "one_answer": True, "sender": Sender.BBR},
        {"images": 40, "nagle": True, "setup_stalls": 2},
    ],
)
def test_other_studies_have_the_same_times(study: dict[str, object]) -> None:
    ends, rules = many(2_000, seed=3), changed(**study)
    assert by_sql(ends, rules)["pacs"] == by_python(ends, "pacs", rules)


def test_the_latest_is_paired_with_the_other_direction_of_the_same_test() -> None:
    with duckdb.connect() as database:
        rows = [
            ("a", "b", 1, 1, "ab"),
            ("a", "b", 2, 2, "ab"),
            ("b", "a", 1, 3, "ab"),
            ("a", "c", 1, 4, "one"),
            ("c", "a", 1, 5, "another"),
        ]
        base = reading()
        own = ", ".join(
            f"{_literal(getattr(base, name))} AS {name}"
            for name in (
                "cycle",
                "started_us",
                "ended_us",
                "rung",
                "error",
                "received",
                "rtt_n",
                *_RTTS,
                *_CAPACITY,
            )
        )
        database.execute(
            "CREATE TABLE told (src VARCHAR, dst VARCHAR, batch BIGINT, sent BIGINT, test VARCHAR)"
        )
        database.executemany("INSERT INTO told VALUES (?, ?, ?, ?, ?)", rows)
        database.execute(f"CREATE VIEW facts AS SELECT *, {own}, {AT_US} AS received_us FROM told")
        database.execute(f"CREATE VIEW latest AS {latest_sql('facts', at_us=AT_US)}")
        found = database.execute(
            f"SELECT src, dst, a_sent, b_sent FROM ({pairs_sql('latest')}) ORDER BY ALL"
        ).fetchall()
        assert found == [("a", "b", 2, 3), ("a", "c", 4, None), ("b", "a", 3, 2), ("c", "a", 5, None)]
        assert database.execute(
            f"SELECT {letter_sql('6')}, {letter_sql('5')}, {letter_sql('0')}"
        ).fetchone() == (*("?", "X", "A"),)


_RTTS = ("rtt_p25_us", "rtt_p50_us", "rtt_p75_us", "rtt_p90_us", "rtt_p95_us", "rtt_p99_us")
_CAPACITY = ("capacity_kbps", "capacity_trust")


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"
