"""The audit log as it is asked for, and as CSV (RFC 4180)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from analytics.sheets import harmless

COMMAND: Final = "the command line"
"""Who did it, where a command on the server did."""
TEST: Final = "test"
"""What nearly all rows are of: two agents that were told to test each other."""


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what to whom, and when."""

    at_us: int
    actor: str  # agent name, or "server"
    action: str  # "enrol", "test", "switch", ...
    subject: str = ""
    detail: str = ""


class AuditAsk(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows; None or empty = any."""

    actor: str | None = None  # exactly
    action: str | None = None  # exactly
    subject: str | None = None  # a part of it
    since_us: int | None = None
    until_us: int | None = None
    before: int | None = None  # rows with a smaller id: the next piece
    tests: bool = True  # rows of tests, too
    limit: int = 200


def is_search(ask: AuditAsk) -> bool:
    """Tell whether rows of tests are looked through one by one: there are millions."""
    return ask.tests and any((ask.actor, ask.action, ask.subject, ask.since_us, ask.until_us))


class AuditEntry(AuditRow, frozen=True, kw_only=True):
    """A row with its place in the log."""

    id: int


COLUMNS: Final = ("time", "actor", "action", "subject", "detail")


def as_csv(entries: Iterable[AuditEntry]) -> str:
    """Write rows as a table; a cell that a spreadsheet would run is quoted with an apostrophe."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(COLUMNS)
    for entry in entries:
        cells = (entry.actor, entry.action, entry.subject, entry.detail)
        moment = datetime.fromtimestamp(entry.at_us / 1_000_000, UTC).isoformat(timespec="milliseconds")
        rows.writerow([moment, *(harmless(cell) for cell in cells)])
    return out.getvalue()
