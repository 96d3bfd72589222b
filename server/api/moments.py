"""Moments of the past in a query: any page and any part of the API at an earlier time (``?at=``)."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query

from analytics.clock import now_us
from analytics.moments import EXAMPLES, moment_us
from server.api.problem import ProblemError

LATEST_US: Final = 2**53
"""Of a moment: what a number in JSON keeps exactly."""

At = Annotated[
    str | None,
    Query(
        max_length=40, description="moment: us since 1970, 2026-11-25T09:45Z, 09:45, or 2h for so long ago"
    ),
]


def read_moment(name: str, text: str | None) -> int | None:
    """Read a moment from a query; None for an empty field. Raises ``ProblemError`` (422)."""
    if text is None or not text.strip():
        return None
    found = moment_us(text, now_us())
    if found is None or found > LATEST_US:
        raise ProblemError(422, f"{name} is no moment: {text!r}", remedy=f"for example {EXAMPLES}")
    return found
