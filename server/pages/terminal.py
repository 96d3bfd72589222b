"""The report in a terminal: the same words and numbers as the pages, laid out by rich.

READ FIRST: ``report``, ``hops``, ``flows`` and ``status`` each give what one command prints. A narrow
terminal drops the columns that matter least; a pipe is not a terminal and gets them all. Names, labels and
errors come from other hosts: they are shown as text, never obeyed as control codes or as rich's markup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analytics.measurement import Direction, Flow, Letter
from analytics.report import PathDetail, PathRow, Report, Verdict
from server.api.core import Status
from server.pages import text
from server.pages.views import HopGroup, HopLine, PathLine, Side, path_view, report_view

LETTER_STYLE: Final[dict[Letter, str]] = {
    Letter.A: "bold green",
    Letter.B: "bold green",
    Letter.C: "bold yellow",
    Letter.D: "bold red",
    Letter.F: "bold red",
    Letter.UNREACHABLE: "bold red",
    Letter.UNKNOWN: "bold dim",
}
FLOWS_BESIDE_HOPS: Final = 3

CONTROLS: Final = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}")
"""C0, DEL and C1 (ECMA-48): ESC and CSI among them."""

T = TypeVar("T")
Told = TypeVar("Told", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One column: its head, what it shows, and the least terminal width at which it is shown."""

    head: str
    show: Callable[[T], str | Text]
    from_width: int = 0
    side: Literal["left", "right"] = "right"


def status(now: Status, verdict: Verdict) -> RenderableType:
    """Say how far the server is, and what it says."""
    now, verdict = _plain(now), _plain(verdict)
    lines = [
        ("agents", f"{now.agents_online} of {now.agents_enrolled} online"),
        ("paths", f"{now.paths_measured} of {now.paths_expected} measured"),
        ("cycle", _cycle(now)),
        ("rows", ", ".join(f"{count:,} {name}" for name, count in now.rows.items()) or "none"),
        ("server", f"pathgrade {now.version}, up since {text.clock(now.started_us)}"),
    ]
    grid = Table.grid(padding=(0, 2))
    for name, value in lines:
        grid.add_row(Text(name, "dim"), Text(value))
    return Group(_verdict(verdict), "", grid)


def report(made: Report, width: int) -> RenderableType:
    """Show the verdict and the ranked paths."""
    made = _plain(made)
    view = report_view(made)
    count = f"{text.plural(len(view.lines), 'directed path')}, worst first, graded for {made.profile}"
    relayed = f"; {view.relayed} through a relay" if view.relayed else ""
    missing = f"; {len(made.missing)} not measured yet" if made.missing else ""
    caption = Text(f"{count}{relayed}{missing}; rules {made.rules_version}", "dim")
    if not view.lines:
        return _verdict(made.verdict)
    return Group(_verdict(made.verdict), "", _table(PATH_COLUMNS, view.lines, width), caption)


def hops(detail: PathDetail, profile: str) -> RenderableType:
    """Show one path hop by hop, as the engineer reads it."""
    profile = _plain_value(profile)
    view = path_view(_plain(detail), profile)
    side = view.sides[0]
    return Group(
        _path_head(side, profile),
        *_figures(side, view.sides[1] if len(view.sides) > 1 else None),
        "",
        _hop_table(side) if side.hops else Text("No hop answered.", "dim"),
        *_path_foot(side, view.flows),
    )


def flows(found: Sequence[Flow], width: int) -> RenderableType:
    """Show passive flows, newest first."""
    if not found:
        return Text("No session fits. Names must match exactly; times are of the last windows kept.", "dim")
    return _table(FLOW_COLUMNS, [_plain(flow) for flow in found], width)


def _plain(told: Told) -> Told:
    """Replace the control characters in every text of a message."""
    return msgspec.structs.replace(
        told, **{name: _plain_value(getattr(told, name)) for name in told.__struct_fields__}
    )


def _plain_value(value: Any) -> Any:
    if type(value) is str:  # not an enumeration's member, which is of our own making
        return value.translate(CONTROLS)
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    if isinstance(value, dict):
        return {_plain_value(key): _plain_value(item) for key, item in value.items()}
    return _plain(value) if isinstance(value, msgspec.Struct) else value


def _cell(shown: str | Text) -> Text:
    """A bare string would be read as markup: '[link=...]' in a process's name as an escape sequence."""
    return shown if isinstance(shown, Text) else Text(shown)


def _verdict(verdict: Verdict) -> RenderableType:
    return Group(Text(verdict.headline, "bold"), *(Text(sentence) for sentence in verdict.details))


def _cycle(now: Status) -> str:
    if now.cycle is None:
        return "none yet: the first starts when two agents are online"
    state = "running since" if now.cycle_running else "latest began"
    return f"{state} {text.clock(now.cycle * 1_000_000)}"


def _table(columns: Sequence[Column[T]], rows: Sequence[T], width: int) -> Table:
    shown = [column for column in columns if width >= column.from_width]
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    for column in shown:
        table.add_column(column.head, justify=column.side, no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(column.show(row)) for column in shown))
    return table


def _letter(row: PathRow) -> Text:
    return Text(row.grade.letter.value, LETTER_STYLE[row.grade.letter])


def _ends(line: PathLine) -> str:
    return f"{line.row.src} → {line.row.dst}"


def _rung(row: PathRow) -> Text:
    return Text(text.RUNG_SHORT[row.rung], "yellow" if row.rung.relayed else "")


def _largest_leg(line: PathLine) -> str:
    if line.bar is None:
        return line.row.error or "no hop answered"
    return f"{line.bar.largest} {text.ms(line.bar.largest_us)}"


PATH_COLUMNS: Final[tuple[Column[PathLine], ...]] = (
    Column("", lambda line: _letter(line.row), side="left"),
    Column("path", _ends, side="left"),
    Column("sites", lambda line: f"{line.row.src_site} → {line.row.dst_site}", from_width=140, side="left"),
    Column("outcome", lambda line: text.expected(line.row.grade), from_width=60),
    Column("RTT", lambda line: text.ms(line.row.rtt_p50_us)),
    Column("p95", lambda line: text.ms(line.row.rtt_p95_us), from_width=120),
    Column("loss →", lambda line: text.loss(line.row.loss_bp), from_width=70),
    Column("loss ←", lambda line: text.loss(line.row.loss_back_bp), from_width=70),
    Column("reached", lambda line: _rung(line.row), from_width=54, side="left"),
    Column(
        "capacity",
        lambda line: text.capacity(line.row.capacity_kbps, line.row.capacity_trust),
        from_width=96,
    ),
    Column("most of the time", _largest_leg, from_width=118, side="left"),
    Column("age", lambda line: text.age(line.row.age_s), from_width=104),
)

_WAY: Final = {Direction.OUT: "to", Direction.IN: "from", Direction.UNKNOWN: "with"}


def _owner(flow: Flow) -> str:
    process = flow.process or "unknown"
    return process if flow.pid is None else f"{process}[{flow.pid}]"


def _again(flow: Flow) -> str:
    sent = flow.segments_sent
    return text.loss(10_000 * flow.segments_retransmitted // sent if sent else None)


FLOW_COLUMNS: Final[tuple[Column[Flow], ...]] = (
    Column("process", _owner, side="left"),
    Column("agent", lambda flow: flow.agent, from_width=60, side="left"),
    Column(
        "remote",
        lambda flow: f"{_WAY[flow.direction]} {flow.remote_address} port {flow.service_port}",
        side="left",
    ),
    Column("srtt", lambda flow: text.ms(flow.srtt_us)),
    Column("least", lambda flow: text.ms(flow.rtt_min_us), from_width=70),
    Column("again", _again, from_width=80),
    Column("sent", lambda flow: text.size(flow.bytes_sent), from_width=90),
    Column("received", lambda flow: text.size(flow.bytes_received), from_width=100),
    Column("rate", lambda flow: text.rate(flow.delivery_kbps), from_width=112),
    Column("opened", lambda flow: str(flow.opened), from_width=120),
    Column("closed", lambda flow: str(flow.closed), from_width=120),
    Column("since (UTC)", lambda flow: text.clock(flow.window_us)[11:19], from_width=64),
)


def _path_head(side: Side, profile: str) -> Text:
    row = side.row
    head = Text.assemble((f"{row.src} → {row.dst}", "bold"), "   ", text.RUNG_LONG[row.rung])
    if side.failed:
        head.append(" (" + "; ".join(f"not {rung}: {why}" for rung, why in side.failed) + ")", "dim")
    return head.append_text(Text.assemble("   ", _letter(row), f" for {profile}"))


def _figures(there: Side, back: Side | None) -> Iterator[Text]:
    row = there.row
    if row.error:
        yield Text(row.error, "red")
    yield Text(
        f"RTT {text.ms(row.rtt_p50_us)} (least {text.ms(row.rtt_min_us)}, p95 {text.ms(row.rtt_p95_us)})"
        f"   loss → {text.loss(row.loss_bp)}  ← {text.loss(row.loss_back_bp)} of {row.sent:,}"
    )
    back_capacity = text.capacity(back.row.capacity_kbps, back.row.capacity_trust) if back else text.NOTHING
    yield Text(
        f"capacity → {text.capacity(row.capacity_kbps, row.capacity_trust)}  ← {back_capacity}"
        f"   stamps {row.stamps}/{back.row.stamps if back else text.NOTHING}   {text.age(row.age_s)} ago"
    )


def _hop_table(side: Side) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 1), header_style="dim", pad_edge=False)
    for head, justify in HOP_HEADS:
        table.add_column(head, justify=justify, no_wrap=head != "leg")
    for group in side.hops:
        for place, line in enumerate(group.lines):
            cells = map(_cell, _hop_cells(group, line, first=place == 0))
            table.add_row(*cells, style="bold" if line.largest else "")
    return table


HOP_HEADS: Final[tuple[tuple[str, Literal["left", "right"]], ...]] = (
    ("leg", "left"),
    ("hop", "right"),
    ("address", "left"),
    ("min", "right"),
    ("p50", "right"),
    ("p95", "right"),
    ("answers", "right"),
    ("added", "right"),
    ("", "left"),
)


def _hop_cells(group: HopGroup, line: HopLine, *, first: bool) -> list[str]:
    hop = line.hop
    return [
        group.leg if first else "",
        str(hop.ttl),
        hop.address or "no answer",
        text.tenths(hop.rtt_min_us),
        text.tenths(hop.rtt_p50_us),
        text.tenths(hop.rtt_p95_us),
        f"{hop.answered}/{hop.sent}",
        text.tenths(line.added_us),
        "◄ most" if line.largest else "",
    ]


def _path_foot(side: Side, seen: Sequence[Flow]) -> Iterator[RenderableType]:
    row = side.row
    if side.bar is not None:
        yield Text(f"Legs: {side.bar.words}.")
    if side.elsewhere:
        yield Text(f"Not seen from {row.src}, told by {row.dst}: {side.elsewhere}.")
    for flow in seen[:FLOWS_BESIDE_HOPS]:
        yield Text(
            f"The application's own socket on {flow.agent}: {_owner(flow)} srtt {text.ms(flow.srtt_us)},"
            f" least {text.ms(flow.rtt_min_us)}."
        )
    grade = row.grade
    yield Text(f"Why {grade.letter.value}: {grade.reason}. Rule {grade.rule}, rules {grade.rules_version}.")
    yield Text(f"The other way: pathgrade hops {row.dst} {row.src}", "dim")
