"""The report in a terminal: the same words and numbers as the pages, laid out by rich.

READ FIRST: ``report``, ``hops``, ``flows``, ``applications`` and ``status``: each gives what one command
prints. A narrow terminal drops the columns that matter least; a pipe is not a terminal and gets them all.
Names, labels and errors come from other hosts: they are shown as text, never obeyed as control codes or as
rich's markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analytics.clauses import slower_words
from analytics.explain import Explanation
from analytics.measurement import Flow, Rung
from analytics.passive import Application, Applications
from analytics.report import PathDetail, PathRow, Report, Service, Verdict
from analytics.usage import By
from server.api.core import TROUBLES, Status
from server.api.doors import Mark, MeshResult, MeshRun
from server.api.listed import PathList
from server.pages import control_words, explained, text
from server.pages.fusion_words import told_by
from server.pages.hop_table import hop_table
from server.pages.tables import LETTER_STYLE, Column, draw, plain, plain_value
from server.pages.views import PathLine, Side, path_view, report_view

FLOWS_BESIDE_HOPS: Final = 3
MOST_RESULTS: Final = 20
"""Of tests on demand that are listed; a terminal is no place for thousands."""


def status(now: Status, verdict: Verdict) -> RenderableType:
    """Say how far the server is, and what it says."""
    now, verdict = plain(now), plain(verdict)
    lines = [
        ("agents", f"{now.agents_online} of {now.agents_enrolled} online"),
        *([("off", f"active tests, on {text.plural(now.agents_off, 'agent')}")] if now.agents_off else []),
        *((name, control_words.off_there(off)) for name, off in now.off_there.items()),
        *(
            (name, f"passive: {control_words.passive_off(off)}")
            for name, off in now.passive_off_there.items()
        ),
        ("paths", _paths(now)),
        ("cycle", _cycle(now)),
        *([("budget", _put_off(now))] if now.paths_put_off else []),
        *([("watch", _watch(now))] if now.paths_watched or now.paths_not_watched else []),
        ("rows", ", ".join(f"{count:,} {name}" for name, count in now.rows.items()) or "none"),
        *([("store", f"{troubles}; see the server's log")] if (troubles := _troubles(now)) else []),
        ("server", f"pathgrade {now.version}, up since {text.clock(now.started_us)}"),
    ]
    grid = Table.grid(padding=(0, 2))
    for name, value in lines:
        grid.add_row(Text(name, "dim"), Text(value))
    return Group(_verdict(verdict), "", grid)


def _paths(now: Status) -> str:
    barred = f"; {now.paths_barred} not tested by policy" if now.paths_barred else ""
    return f"{now.paths_measured} of {now.paths_expected} measured{barred}"


def _troubles(now: Status) -> str:
    told = ((now.store.get(name, 0), words) for name, words in TROUBLES.items())
    return ", ".join(f"{count} {words}" for count, words in told if count)


def report(made: Report, width: int) -> RenderableType:
    """Show the verdict and the ranked paths."""
    made = plain(made)
    view = report_view(made)
    count = f"{text.plural(len(view.lines), 'directed path')}, worst first, graded for {made.profile}"
    relayed = f"; {view.relayed} through a relay" if view.relayed else ""
    missing = f"; {len(made.missing)} not measured yet" if made.missing else ""
    caption = Text(f"{count}{relayed}{missing}; rules {made.rules_version}", "dim")
    if not view.lines:
        return _verdict(made.verdict)
    causes = [Text(finding.sentence) for finding in made.findings]
    return Group(_verdict(made.verdict), *causes, "", draw(PATH_COLUMNS, view.lines, width), caption)


def path_list(made: PathList, width: int) -> RenderableType:
    """Show a piece of the ranked list, and how to see the next one."""
    note = _piece(made)
    return Group(report(made, width), Text(note, "dim")) if note else report(made, width)


def _piece(made: PathList) -> str:
    """Say which piece it is; nothing where it is all there is."""
    first, last = made.start + 1, made.start + len(made.paths)
    if not made.paths:
        return f"No path fits from place {first} on." if made.members else ""
    if not made.start and made.next is None:
        return f"of {made.paths_of:,} paths: export has all" if made.paths_of is not None else ""
    more = f"; the next: --start {made.next}" if made.next is not None else ""
    return f"{first:,} to {last:,} of {made.fitting:,} that fit{more}"


def hops(detail: PathDetail, profile: str, width: int = 160) -> RenderableType:
    """Show one path hop by hop, as the engineer reads it."""
    profile = plain_value(profile)
    view = path_view(plain(detail), profile)
    side = view.sides[0]
    return Group(
        path_head(side, profile),
        *figures(side, view.sides[1] if len(view.sides) > 1 else None),
        "",
        hop_table(side.hops, width) if side.hops else Text("No hop answered.", "dim"),
        *_path_foot(side, view.flows),
    )


def explanation(told: Explanation) -> RenderableType:
    """Show why a path has its letter, step by step."""
    told = plain(told)
    letter = Text(told.grade.letter.value, LETTER_STYLE[told.grade.letter])
    head = Text.assemble((f"{told.src} → {told.dst}", "bold"), "   ", letter, f" for {told.profile}")
    head.append(f"   {text.clock(told.at_us)}, {explained.version(told)}", "dim")
    return Group(head, *map(_section, explained.sections(told)))


def _section(section: explained.Section) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for what, known in section.lines:
        grid.add_row(Text(f"  {what}", "dim"), Text(known))
    rule = Text(f"   rule {section.rule}", "dim") if section.rule else Text("")
    return Group("", Text.assemble((section.title, "bold"), rule), grid)


def flows(found: Sequence[Flow], width: int) -> RenderableType:
    """Show passive flows, newest first."""
    if not found:
        return Text("No session fits. Names must match exactly; times are of the last windows kept.", "dim")
    return draw(FLOW_COLUMNS, [plain(flow) for flow in found], width)


def applications(made: Applications, width: int) -> RenderableType:
    """Show what the applications' own sessions saw, graded, worst first."""
    made = plain(made)
    if not made.rows:
        return Text("No session in 24 hours.", "dim")
    more = "; there are more: raise --limit, or name one --agent" if made.is_cut else ""
    told = f"worst first, sessions since {text.clock(made.since_us)}{more}; rules {made.rules_version}"
    return Group(draw(APPLICATION_COLUMNS[made.by], made.rows, width), Text(told, "dim"))


def _verdict(verdict: Verdict) -> RenderableType:
    return Group(Text(verdict.headline, "bold"), *(Text(sentence) for sentence in verdict.details))


def _cycle(now: Status) -> str:
    if now.cycle is None:
        return "none yet: the first starts when two agents are online"
    state = "running since" if now.cycle_running else "latest began"
    return f"{state} {text.clock(now.cycle * 1_000_000)}"


def _put_off(now: Status) -> str:
    every = text.age(now.cycles_for_all * now.cycle_s)
    return f"{now.paths_put_off} paths wait for a later cycle; each has its turn within about {every}"


def _watch(now: Status) -> str:
    left = f"; no room in the budget to watch {now.paths_not_watched} more" if now.paths_not_watched else ""
    return f"{text.plural(now.paths_watched, 'path')} tested between cycles{left}"


def mesh_run(run: MeshRun, width: int) -> RenderableType:
    """Show what tests on demand found: what failed first, then the slowest."""
    results = sorted(map(plain, run.results), key=_failed_then_slowest)
    took_s = ((run.ended_us or run.started_us) - run.started_us) / 1e6
    reached = sum(result.rung is not Rung.NONE for result in results)
    told = f"{reached} of {text.plural(len(results), 'directed path')} reached in {took_s:.1f} s"
    more = f"; {len(results) - MOST_RESULTS} more: --json has all" if len(results) > MOST_RESULTS else ""
    return Group(draw(RESULT_COLUMNS, results[:MOST_RESULTS], width), Text(told + more, "dim"))


def marks(found: Sequence[Mark]) -> RenderableType:
    """List what is marked as important."""
    if not found:
        return Text("Nothing is marked: paths that changed go first, then the one that waits longest.", "dim")
    return Group(*(Text(f"{one.agent} → {one.peer or 'everyone'}, both ways") for one in map(plain, found)))


def services(found: Sequence[Service], width: int) -> RenderableType:
    """List what is offered and tagged."""
    if not found:
        return Text("No service is known: agents offer them, and pathgrade services tag names others.", "dim")
    return draw(SERVICE_COLUMNS, [plain(service) for service in found], width)


SERVICE_COLUMNS: Final[tuple[Column[Service], ...]] = (
    Column("service", lambda service: service.name, side="left"),
    Column("agent", lambda service: service.agent, side="left"),
    Column("port", lambda service: str(service.port)),
    Column("profile", lambda service: service.profile, side="left"),
)


def _failed_then_slowest(result: MeshResult) -> tuple[bool, int, str, str]:
    return (result.rung is not Rung.NONE, -(result.rtt_p50_us or 0), result.src, result.dst)


RESULT_COLUMNS: Final[tuple[Column[MeshResult], ...]] = (
    Column("path", lambda result: f"{result.src} → {result.dst}", side="left"),
    Column("reached", lambda result: text.RUNG_SHORT[result.rung], side="left"),
    Column("RTT", lambda result: text.ms(result.rtt_p50_us)),
    Column("loss →", lambda result: text.loss(result.loss_bp)),
    Column("", lambda result: result.error, side="left", wraps=True),
)


def _letter(row: PathRow | Application) -> Text:
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
    Column("told by", lambda line: told_by(line.row), from_width=170, side="left"),
    Column("most of the time", _largest_leg, from_width=118, side="left"),
    Column("age", lambda line: text.age_of(line.row), from_width=104),
)


def _owner(flow: Flow) -> str:
    process = flow.process or "unknown"
    return process if flow.pid is None else f"{process}[{flow.pid}]"


def _again(flow: Flow) -> str:
    return text.loss(text.share(flow.segments_retransmitted, flow.segments_sent))


def _reset(flow: Flow) -> str:
    return str(flow.resets_sent + flow.resets_received)


FLOW_COLUMNS: Final[tuple[Column[Flow], ...]] = (
    Column("process", _owner, side="left"),
    Column("agent", lambda flow: flow.agent, from_width=60, side="left"),
    Column("remote", text.service, side="left"),
    Column("srtt", lambda flow: text.ms(flow.srtt_us)),
    Column("least", lambda flow: text.ms(flow.rtt_min_us), from_width=70),
    Column("again", _again, from_width=80),
    Column("sent", lambda flow: text.size(flow.bytes_sent), from_width=90),
    Column("received", lambda flow: text.size(flow.bytes_received), from_width=100),
    Column("rate", lambda flow: text.rate(flow.delivery_kbps), from_width=112),
    Column("opened", lambda flow: str(flow.opened), from_width=120),
    Column("closed", lambda flow: str(flow.closed), from_width=120),
    Column("failed", lambda flow: str(flow.failed), from_width=128),
    Column("reset", _reset, from_width=136),
    Column("held up by", text.limited, from_width=152, side="left"),
    Column("since (UTC)", lambda flow: text.clock(flow.window_us)[11:19], from_width=64),
)


def _strip(row: Application) -> Text:
    """Draw the hours as a letter each, so that it can be read without colour."""
    parts = ((letter.value, LETTER_STYLE[letter]) if letter else ("·", "dim") for letter in row.hours)
    return Text.assemble(*parts)


APPLICATION_COLUMNS: Final[dict[By, tuple[Column[Application], ...]]] = {
    by: (
        Column("", _letter, side="left"),
        Column(by.value, text.subject, side="left"),
        Column("agent", lambda row: row.agent, from_width=60, side="left"),
        Column("sessions", lambda row: f"{row.sessions:,}", from_width=90),
        Column("RTT", lambda row: text.ms(row.rtt_p50_us)),
        Column("again", lambda row: text.loss(row.retransmit_bp), from_width=50),
        Column("24 h to now", _strip, from_width=100, side="left"),
        Column("failed", lambda row: f"{row.failed:,}", from_width=110),
        Column("why", text.why, from_width=120, side="left", wraps=True),
    )
    for by in By
}


def path_head(side: Side, profile: str, *, brief: bool = False) -> Text:
    """Say which path it is, how it was reached and, if not brief, why not better; and its letter."""
    row = side.row
    head = Text.assemble((f"{row.src} → {row.dst}", "bold"), "   ", text.RUNG_LONG[row.rung])
    if side.failed and not brief:
        head.append(" (" + "; ".join(f"not {rung}: {why}" for rung, why in side.failed) + ")", "dim")
    return head.append_text(Text.assemble("   ", _letter(row), f" for {profile}"))


def figures(there: Side, back: Side | None) -> Iterator[Text]:
    """Say a path's numbers, of both directions."""
    row = there.row
    if row.error:
        yield Text(row.error, "red")
    yield Text(
        f"RTT {text.ms(row.rtt_p50_us)} (least {text.ms(row.rtt_min_us)}, p95 {text.ms(row.rtt_p95_us)}"
        f"{_usually(row)})"
        f"   loss → {text.loss(row.loss_bp)}  ← {text.loss(row.loss_back_bp)} of {row.sent:,}"
    )
    if row.added is not None:
        yield Text(f"{slower_words(row, row.added)}.", "yellow")
    if row.watched:
        yield Text(text.since(row), "dim")
    back_capacity = text.capacity(back.row.capacity_kbps, back.row.capacity_trust) if back else text.NOTHING
    yield Text(
        f"capacity → {text.capacity(row.capacity_kbps, row.capacity_trust)}  ← {back_capacity}"
        f"   stamps {row.stamps}/{back.row.stamps if back else text.NOTHING}   {text.age(row.age_s)} ago"
    )


def _usually(row: PathRow) -> str:
    return "" if row.usual_rtt_us is None else f", usually {text.ms(row.usual_rtt_us)}"


def _path_foot(side: Side, seen: Sequence[Flow]) -> Iterator[RenderableType]:
    row = side.row
    if side.bar is not None:
        yield Text(f"Legs: {side.bar.words}.")
    if side.elsewhere:
        yield Text(f"Not seen from {row.src}, told by {row.dst}: {side.elsewhere}.")
    if side.way:
        yield Text(" ".join(side.way))
    if side.sessions:
        yield Text(" ".join(side.sessions))
    for flow in seen[:FLOWS_BESIDE_HOPS]:
        yield Text(
            f"The application's own socket on {flow.agent}: {_owner(flow)} srtt {text.ms(flow.srtt_us)},"
            f" least {text.ms(flow.rtt_min_us)}."
        )
    grade = row.grade
    yield Text(f"Why {grade.letter.value}: {grade.reason}. Rule {grade.rule}, rules {grade.rules_version}.")
    yield Text(f"Every step: pathgrade explain {row.src} {row.dst}", "dim")
    yield Text(f"The other way: pathgrade hops {row.dst} {row.src}", "dim")
