"""The sessions of this host in a terminal: a table, live or once, and the TCP life of one in words.

A narrow terminal drops the columns that matter least; a pipe gets them all. Names of programs are chosen by
whoever runs them: they are shown as text, never obeyed as control codes or as rich's markup.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent.mesh.peers import Peer
from analytics import words
from analytics.measurement import Direction, Session
from analytics.tcp_life import TcpLife
from analytics.tcp_limits import Verdict, judge
from analytics.tcp_seen import Seen

NOTHING: Final = "\N{EN DASH}"
REFRESH_S: Final = 1.0
BESIDE_ROWS: Final = 3
"""Lines of a live view that are not rows: the head, the foot, and the cursor's."""

CONTROLS: Final = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}")
"""C0, DEL and C1 (ECMA-48): ESC and CSI among them."""

ARROWS: Final = {Direction.OUT: "→", Direction.IN: "←", Direction.UNKNOWN: "↔"}
LIMITS: Final[dict[Verdict, str]] = {
    Verdict.NOTHING_WRONG: "nothing",
    Verdict.TOO_LITTLE_SEEN: NOTHING,
}
"""What is not said as the verdict itself."""
VERDICT_STYLE: Final[dict[Verdict, str]] = {
    Verdict.NOTHING_WRONG: "bold green",
    Verdict.TOO_LITTLE_SEEN: "bold",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its head, what it shows, and the least terminal width at which it is shown."""

    head: str
    show: Callable[[Session], str]
    from_width: int = 0
    side: Literal["left", "right"] = "right"
    yields: bool = False
    """Cut first where the terminal is too narrow."""


def resent_bp(session: Session) -> int | None:
    """Share of the segments with data that were sent again, in basis points; None where none was sent."""
    sent = session.segments_sent
    return 10_000 * session.segments_retransmitted // sent if sent else None


SORTS: Final[dict[str, Callable[[Session], Any]]] = {
    "bytes": lambda session: -(session.bytes_sent + session.bytes_received),
    "rtt": lambda session: -(session.srtt_us or 0),
    "loss": lambda session: -(resent_bp(session) or 0),
    "age": lambda session: -(session.duration_us or 0),
    "process": lambda session: (session.process, session.pid or 0),
}
"""Name of an order -> its key: most first, names by the alphabet. Equal ones stay newest first."""


def sessions(found: Sequence[Session], width: int) -> RenderableType:
    """Show sessions, one a line, in the order given."""
    if not found:
        return Text("No session fits. Names and addresses must match exactly.", "dim")
    table = _table([column for column in COLUMNS if width >= column.from_width], found)
    return Group(
        table, Text(f"{words.count(len(found), 'session')}; pathgrade flows show ID tells one", "dim")
    )


def tell(session: Session, told: TcpLife) -> RenderableType:
    """Show one session's life in words."""
    head = f"{_owner(session)} {_arrow(session)} {_ends(session)}, {_since(session)}"
    return Group(
        Text(_plain(head), "dim"),
        Text(_plain(told.headline), VERDICT_STYLE.get(told.verdict, "bold red")),
        *(Text(_plain(sentence.text)) for sentence in told.sentences),
        Text(f"Session {session.id}. Rule {told.rule}, rules {told.rules_version}.", "dim"),
    )


def peers(met: Mapping[str, Peer]) -> RenderableType:
    """Draw the peers that were met, and the key pinned for each."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    for head in ("peer", "first met (UTC)", "identity key"):
        table.add_column(head, no_wrap=head != "identity key", overflow="fold")
    for name, peer in met.items():
        since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(peer.first_met_us / 1e6))
        table.add_row(_cell(name), _cell(since), _cell(peer.key))
    return table if met else Text("no peer met yet")


def watch(
    console: Console, look: Callable[[int], RenderableType], *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Show what ``look`` gives for so many rows, again and again, until interrupted or ``look`` raises."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(look(max(1, console.size.height - BESIDE_ROWS)), refresh=True)
            sleep(REFRESH_S)


def _table(columns: Sequence[Column], rows: Sequence[Session]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    for column in columns:
        # What may wrap is what rich narrows first; its cells cut instead, so that a row stays a line.
        table.add_column(column.head, justify=column.side, no_wrap=not column.yields)
    for row in rows:
        table.add_row(*(_cell(column.show(row)) for column in columns))
    return table


def _cell(shown: str) -> Text:
    return Text(_plain(shown), no_wrap=True, overflow="ellipsis")


def _plain(shown: str) -> str:
    return shown.translate(CONTROLS)


def _owner(session: Session) -> str:
    process = session.process or "unknown"
    return process if session.pid is None else f"{process}[{session.pid}]"


def _arrow(session: Session) -> str:
    return ARROWS[session.direction]


def _ends(session: Session) -> str:
    """Whose port is named is the service's: the other one says nothing to people."""
    if session.direction is Direction.IN:
        return f"{session.remote_address}, to port {session.local_port} here"
    return f"{session.remote_address} port {session.remote_port}"


def _ms(us: int | None) -> str:
    return NOTHING if us is None else f"{words.ms(us)} ms"


def _age(session: Session) -> str:
    return NOTHING if session.duration_us is None else words.span(session.duration_us)


def _state(session: Session) -> str:
    """Write the state as RFC 9293 has it, in small letters."""
    return session.state.lower().replace("_", "-") if session.open else "closed"


def _since(session: Session) -> str:
    """'established, 12 s old', 'closed after 3 min'."""
    state, lasted_us = _state(session), session.duration_us
    if lasted_us is None:
        return state
    return (
        f"{state}, {words.span(lasted_us)} old" if session.open else f"{state} after {words.span(lasted_us)}"
    )


def _resent(session: Session) -> str:
    share_bp = resent_bp(session)
    if share_bp is None:
        return NOTHING
    return words.percent(share_bp / 10_000) if share_bp else "0 %"


def _limit(session: Session) -> str:
    verdict = judge(Seen(session)).verdict
    return LIMITS.get(verdict, verdict.value)


def _guess(session: Session) -> str:
    return f"{session.process or 'unknown'}{'?' if session.guessed else ''}"


COLUMNS: Final = (
    Column("process", _guess, side="left"),
    Column("pid", lambda session: NOTHING if session.pid is None else str(session.pid), from_width=116),
    Column("", _arrow, side="left"),
    Column("remote", lambda session: session.remote_address, side="left", yields=True),
    Column("port", lambda session: str(session.service_port), from_width=50),
    Column("state", _state, from_width=136, side="left"),
    Column("lasted", _age, from_width=60),
    Column("srtt", lambda session: _ms(session.srtt_us)),
    Column("least", lambda session: _ms(session.min_rtt_us), from_width=126),
    Column("resent", _resent, from_width=96),
    Column("in", lambda session: words.size(session.bytes_received), from_width=88),
    Column("out", lambda session: words.size(session.bytes_sent), from_width=88),
    Column("held up by", _limit, from_width=108, side="left"),
    Column("id", lambda session: session.id, from_width=72, side="left"),
)
