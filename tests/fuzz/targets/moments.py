"""Moments and months in queries: ?at=, ?since=, ?month= (analytics/moments.py, analytics/sla.py)."""

from __future__ import annotations

from collections.abc import Iterator

from analytics.moments import moment_us
from analytics.sla import month_of
from server.api.moments import LATEST_US, read_moment
from server.api.problem import ProblemError

ALLOWED = (ProblemError,)
NOW_US = 1_764_000_000_000_000


def target(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = moment_us(text, NOW_US)
    assert found is None or found >= 0
    month = month_of(text)
    assert month is None or month.since_us < month.until_us
    read = read_moment("at", text)
    assert read is None or 0 <= read <= LATEST_US


def seeds() -> Iterator[bytes]:
    for text in (
        "2h",
        "7d",
        "09:45",
        "2026-11-25",
        "2026-11-25T09:45Z",
        "1764000000000000",
        "2026-11",
        "0001-01-01",
        "9999-12-31T23:59:59.999999+23:59",
        "2026-W48-3",
        "",
    ):
        yield text.encode()
