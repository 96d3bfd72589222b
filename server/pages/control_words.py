"""Switches and budgets in words: for the pages and for the terminal. Pure."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from analytics.wire import LocalOff
from server.api.controls import BudgetNow, Budgets, MeshSwitches, Off, OwnBudget, Reach
from server.pages import text
from server.pages.tables import Column, draw, plain


def subject(reach: Reach, name: str) -> str:
    """Name what a switch or a budget is of: 'the fleet', 'site hotel', 'agent pacs'."""
    return "the fleet" if reach is Reach.FLEET else f"{reach.value} {name}"


def off_because(off: Off) -> str:
    """Say why active tests are off: 'Off for site hotel, by ada since 2026-11-25 09:41:00 UTC.'."""
    return f"Off for {subject(off.reach, off.name)}, by {off.by} since {text.clock(off.since_us)}."


def off_there(off: LocalOff) -> str:
    """Say who switched an agent off on its own host: 'Switched off on its own host since ... by ada: ...'."""
    return f"Switched off on its own host since {_by(off)}."


def passive_off(off: LocalOff) -> str:
    """Say who switched passive capture off: 'off by the host since 2026-11-25 09:41:00 UTC by ada: ...'."""
    return f"off by the host since {_by(off)}"


def _by(off: LocalOff) -> str:
    note = f": {off.note}" if off.note else ""
    return f"{text.clock(off.since_us)} by {off.by}{note}"


def cpu(cpu_bp: int | None) -> str:
    """Write a share of one core: '0.80 %'."""
    return text.NOTHING if cpu_bp is None else f"{cpu_bp / 100:.2f}{text.NBSP}%"


def sent(bytes_per_hour: int | None) -> str:
    """Write bytes an hour: '36 MB/h'."""
    return text.NOTHING if bytes_per_hour is None else f"{text.size(bytes_per_hour)}/h"


def allowed(now: BudgetNow) -> str:
    """Say what an agent may spend, and what says so."""
    of_cpu = f"{cpu(now.cpu_bp)} of a core ({set_by(now.cpu_by)})"
    return f"{of_cpu}, {sent(now.bytes_per_hour)} ({set_by(now.bytes_by)})"


def set_by(reach: Reach | None) -> str:
    """Say what a number of a budget comes from."""
    return "the server's setting" if reach is None else f"set for the {reach.value}"


def switches(told: MeshSwitches, width: int) -> RenderableType:
    """List what is off."""
    if not told.off:
        return Text("Active tests are on everywhere.", "dim")
    summary = Text(f"Active tests are off on {told.agents_off} of {text.plural(told.agents, 'agent')}.")
    return Group(draw(OFF_COLUMNS, [plain(off) for off in told.off], width), summary)


def budgets(told: Budgets, width: int) -> RenderableType:
    """List what was set, and the setting under it."""
    setting = Text(f"Else {allowed(told.setting)}.", "dim")
    if not told.own:
        return setting
    return Group(draw(BUDGET_COLUMNS, [plain(own) for own in told.own], width), setting)


OFF_COLUMNS: Final[tuple[Column[Off], ...]] = (
    Column("off for", lambda off: subject(off.reach, off.name), side="left"),
    Column("by", lambda off: off.by, side="left"),
    Column("since", lambda off: text.clock(off.since_us), side="left"),
)

BUDGET_COLUMNS: Final[tuple[Column[OwnBudget], ...]] = (
    Column("each agent of", lambda own: subject(own.reach, own.name), side="left"),
    Column("of a core", lambda own: cpu(own.cpu_bp)),
    Column("sends", lambda own: sent(own.bytes_per_hour)),
    Column("by", lambda own: own.by, side="left", from_width=80),
    Column("since", lambda own: text.clock(own.since_us), side="left", from_width=100),
)
