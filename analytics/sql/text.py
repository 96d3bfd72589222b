"""Small pieces of SQL that DuckDB and Spark SQL read alike, and compute alike to the last bit.

Numbers with a fraction are written with an exponent: that is a double everywhere, where ``0.05`` is a
decimal. Letters are codes, so that they can be compared and packed: 0 for A ... 4 for F, 5 for X, 6 for
``?``. Expressions are text; whoever puts them together does so from rules and constants, never from
outside bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from analytics.letters import LETTERS
from analytics.measurement import Letter

Layer = Mapping[str, str]
"""Columns of one SELECT over the one before: name -> expression. None may use another of its own layer."""

CODES: Final[tuple[Letter, ...]] = (*LETTERS, Letter.UNREACHABLE, Letter.UNKNOWN)
"""Letter of each code."""
WORST, UNREACHABLE, UNKNOWN = len(LETTERS) - 1, CODES.index(Letter.UNREACHABLE), CODES.index(Letter.UNKNOWN)
_NO_FRACTION: Final = "6.755399441055744e15"
NULL: Final = "CAST(NULL AS BIGINT)"


def real(value: float) -> str:
    """Write a number as a double, exactly."""
    return f"{value:.16e}" if value >= 0 else f"({value:.16e})"


def as_real(column: str) -> str:
    """Take an integer as a double: so a quotient is one too, in every engine."""
    return f"CAST({column} AS DOUBLE)"


def text(value: str) -> str:
    """Write a string."""
    quoted = value.replace("'", "''")
    return f"'{quoted}'"


def case(*branches: tuple[str, str], other: str = NULL) -> str:
    """Choose the value of the first condition that holds."""
    told = " ".join(f"WHEN {condition} THEN {value}" for condition, value in branches)
    return f"CASE {told} ELSE {other} END" if branches else other


def rounded(column: str) -> str:
    """Round a double below 2^51 half to even, as Python does, and neither engine's own ``round``.

    The sum with 1.5 x 2^52 has no bits left for a fraction: IEEE addition rounds it. Taking it off is exact.
    """
    return f"CAST({column} + {_NO_FRACTION} - {_NO_FRACTION} AS BIGINT)"


def within(value: str, limits: Sequence[int]) -> str:
    """As ``letters.letter_within``: the code of the first limit that holds the value."""
    return case(*((f"{value} <= {most}", str(code)) for code, most in enumerate(limits)), other=str(WORST))


def above(value: str, limits: Sequence[int]) -> str:
    """As ``letters.letter_above``: the code of the first limit that the value reaches."""
    return case(*((f"{value} >= {least}", str(code)) for code, least in enumerate(limits)), other=str(WORST))


def with_layers(source: str, layers: Sequence[Layer]) -> tuple[str, str]:
    """Put layers on a relation: the text of the CTEs, and the name of the last."""
    parts, name = [], source
    for number, layer in enumerate(layers):
        columns = "".join(f",\n        {expression} AS {column}" for column, expression in layer.items())
        parts.append(f"layer_{number} AS (SELECT *{columns}\n    FROM {name})")  # noqa: S608  # see above
        name = f"layer_{number}"
    return ",\n".join(parts), name


def merged(*stacks: Sequence[Layer]) -> list[Layer]:
    """Lay stacks side by side: their first layers become one, and so on."""
    depth = max(map(len, stacks), default=0)
    return [
        {name: expression for stack in stacks if at < len(stack) for name, expression in stack[at].items()}
        for at in range(depth)
    ]
