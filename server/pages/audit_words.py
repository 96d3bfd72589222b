"""The audit log in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from server.api.audits import AuditRow
from server.pages import text
from server.pages.tables import Column, draw, plain


def listed(rows: Sequence[AuditRow], width: int) -> RenderableType:
    """Show rows in a table."""
    if not rows:
        return Text("Nothing fits, among the newest that were looked at: --limit looks further back.", "dim")
    return draw(COLUMNS, [plain(row) for row in rows], width)


def line(row: AuditRow) -> str:
    """Say one row in a line of a log."""
    told = plain(row)
    words = (text.iso(told.at_us), told.actor, told.action, told.subject, told.detail)
    return "  ".join(word for word in words if word)


COLUMNS: Final[tuple[Column[AuditRow], ...]] = (
    Column("when (UTC)", lambda row: text.clock(row.at_us).removesuffix(" UTC"), side="left"),
    Column("who", lambda row: row.actor, side="left"),
    Column("did", lambda row: row.action, side="left"),
    Column("to", lambda row: row.subject, side="left", wraps=True),
    Column("more", lambda row: row.detail, from_width=90, side="left", wraps=True),
)
