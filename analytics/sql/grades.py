"""Grades of all paths and all profiles at once, as SQL; as ``analytics/grade.py`` gives them one at a time.

READ FIRST: ``grades_sql``. The text is made from the same rules as the Python: thresholds, samples needed and
models have one definition. DuckDB and Spark SQL read it alike.

Rounding is where an engine's own ``pow`` or ``log`` could show: an outcome that lies within the last bits
of a half may be rounded to its other side. Thresholds and everything else are integers, or doubles of
IEEE operations in Python's own order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from analytics.rules.load import (
    CallProfile,
    InteractionProfile,
    ObjectiveProfile,
    ResponseProfile,
    Rules,
    StudyProfile,
)
from analytics.sql.call import call_layers
from analytics.sql.evidence import evidence_layers
from analytics.sql.kinds import SqlKind, interaction_layers, objective_layers, response_layers
from analytics.sql.study import clean_layers, lossy_layers
from analytics.sql.text import CODES, case, merged, text, with_layers

KINDS: Final[dict[type, SqlKind]] = {
    StudyProfile: lossy_layers,
    ResponseProfile: response_layers,
    InteractionProfile: interaction_layers,
    CallProfile: call_layers,
    ObjectiveProfile: objective_layers,
}

CLEAN: Final[dict[type, SqlKind]] = {StudyProfile: clean_layers}
"""Shorter forms for paths that lost nothing on the way there."""

OWN: Final = (
    *("cycle", "started_us", "ended_us", "rung", "error", "sent", "received", "rtt_n"),
    *("rtt_p25_us", "rtt_p50_us", "rtt_p75_us", "rtt_p90_us", "rtt_p95_us", "rtt_p99_us"),
    *("capacity_kbps", "capacity_trust"),
)
"""Columns of a path's own reading that a grade is made from; in ``pairs`` as ``a_*``."""
BACK: Final = tuple(
    column for column in OWN if column not in ("cycle", "started_us", "ended_us", "rung", "error")
)
"""Columns of the other direction's, as ``b_*``; all NULL where there is none of the same test."""
LATEST_KEY: Final = ("cycle", "ended_us", "received_us", "batch")
"""The reading with the greatest of these is a path's latest."""
GRADE: Final = ("letter", "outcome", "outcome_low", "outcome_high")


def prefix(profiles: Sequence[str], profile: str) -> str:
    """Begin of the columns of a profile's grade: names of profiles are free text, columns are not."""
    return f"g{profiles.index(profile)}_"


def latest_sql(facts: str, *, at_us: int) -> str:
    """Choose the latest reading of each directed path that had arrived by a moment, of one tenant's."""
    order = ", ".join(f"{column} DESC" for column in LATEST_KEY)
    columns = ", ".join(dict.fromkeys(("src", "dst", "test", *OWN)))
    return f"""SELECT {columns} FROM (
        SELECT *, row_number() OVER (PARTITION BY src, dst ORDER BY {order}) AS age
        FROM {facts} WHERE received_us <= {at_us}) AS aged
    WHERE age = 1"""  # noqa: S608  # names of columns and numbers only


def pairs_sql(latest: str) -> str:
    """Put beside each latest reading the other direction's, where it is of the same test."""
    own = ", ".join(f"a.{column} AS a_{column}" for column in OWN)
    back = ", ".join(f"b.{column} AS b_{column}" for column in BACK)
    return f"""SELECT a.src AS src, a.dst AS dst, {own}, {back}
    FROM {latest} AS a LEFT JOIN {latest} AS b ON b.src = a.dst AND b.dst = a.src AND b.test = a.test
    WHERE a.src <> a.dst"""  # noqa: S608  # names of columns only


def grades_sql(
    rules: Rules,
    profiles: Sequence[str],
    *,
    pairs: str,
    at_us: int | str,
    keep: Sequence[str] = ("src", "dst"),
) -> str:
    """Grade every row of ``pairs``: one row each, four columns a profile (``prefix``), and ``none_rule``.

    ``at_us`` is the moment that they are graded for, or the column of ``pairs`` that has each one's.
    ``none_rule`` is the rule of a path that no number means anything for; else a rule is its profile's.
    Raises ``RulesError`` for an unknown profile.
    """
    columns = ", ".join([*keep, "none_rule", *_grade_columns(profiles)])

    def graded(source: str, kinds: Mapping[type, SqlKind]) -> str:
        chosen = {profile: rules.profile(profile) for profile in profiles}
        stacks = [
            kinds[type(one)](prefix(profiles, name), one, rules.samples) for name, one in chosen.items()
        ]
        layers, last = with_layers(source, [*evidence_layers(rules, at_us), *merged(*stacks)])
        return f"(WITH {layers}\nSELECT {columns} FROM {last})"

    if not any(type(rules.profile(profile)) in CLEAN for profile in profiles):
        return graded(pairs, KINDS)
    halves = (("clean", "<=", {**KINDS, **CLEAN}), ("lossy", ">", KINDS))
    return "\nUNION ALL\n".join(
        graded(f"(SELECT * FROM {pairs} WHERE a_sent - a_received {which} 0) AS {name}", kinds)  # noqa: S608  # made from checked rules
        for name, which, kinds in halves
    )


def letter_sql(code: str) -> str:
    """Write a letter's code as the letter."""
    return case(*((f"{code} = {at}", text(letter.value)) for at, letter in enumerate(CODES)), other="NULL")


def _grade_columns(profiles: Sequence[str]) -> Iterator[str]:
    for name in profiles:
        yield from (f"{prefix(profiles, name)}{column}" for column in GRADE)
