"""Alerts and their receivers in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analytics import words
from server.alerts.model import Alert, ReceiverStatus, Severity
from server.api.alert_door import AlertList
from server.pages.alert_words import MARK, lasted, silence_words, state

STYLE: Final = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_NARROW: Final = 60


def listed(found: AlertList, width: int) -> RenderableType:
    """What is open, what was, and the silences."""
    parts: list[RenderableType] = [_table(found.open, found.at_us, width)] if found.open else []
    if not found.open:
        parts.append(Text("No alert is open." if found.looked_us else "Nobody has looked for alerts yet."))
    if found.past:
        parts += [Text("\nOver:"), _table(found.past, found.at_us, width)]
    if found.silences:
        parts.append(Text("\n" + "\n".join(map(silence_words, found.silences))))
    return Group(*parts)


def _table(alerts: Sequence[Alert], at_us: int, width: int) -> RenderableType:
    if width < _NARROW:
        return Group(*(Text(f"{MARK[one.severity]} {one.id}  {one.title}\n{one.text}\n") for one in alerts))
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("", "id", "since", "for", "what"):
        table.add_column(name, no_wrap=name != "what", vertical="top")
    for one in alerts:
        said = Text(f"{one.text}", overflow="fold")
        if note := state(one):
            said.append(f"\n{note}", style="dim")
        table.add_row(
            Text(f"{MARK[one.severity]:2} {one.severity.value}", style=STYLE[one.severity]),
            one.id,
            words.since(one.since_us, at_us),
            lasted(one, at_us),
            said,
        )
    return table


def receivers(found: Sequence[ReceiverStatus], width: int) -> RenderableType:
    """Who is told."""
    if not found:
        return Text("Nobody is told of alerts: the server has no receivers (docs/alerts.md).")
    table = Table(box=None, pad_edge=False, show_edge=False, width=min(width, 160))
    for name in ("receiver", "kind", "from", "waiting", "sent", "failed", "lost", "last"):
        table.add_column(name, justify="right" if name in {"waiting", "sent", "failed", "lost"} else "left")
    for one in found:
        lost = one.refused + one.given_up + one.dropped
        last = one.last_error or ("fine" if one.last_sent_us else "nothing yet")
        counts = (one.waiting, one.sent, one.failed, lost)
        table.add_row(one.name, one.kind, one.least, *map(str, counts), last)
    return table
