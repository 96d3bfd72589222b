"""The full screen of ``pathgrade hops``: both directions of a pair, drawn anew as tests come in. Pure.

From 170 columns on the directions stand side by side, else one above the other. What the window is too low
for is left out at the bottom, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from analytics.report import PathDetail
from server.pages import text
from server.pages.hop_table import hop_table
from server.pages.tables import plain
from server.pages.terminal import figures, path_head
from server.pages.views import Side, path_view

SIDE_BY_SIDE_FROM: Final = 170
BRIEF_BELOW: Final = 120
MOST_BARS: Final = 40
BARS: Final = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a pair at a moment."""

    detail: PathDetail  # hops of all rounds
    rounds: int
    rtts_us: tuple[int | None, ...]  # median of each round; None = not reached
    route_since_us: int | None  # the route changed then: hops count from there
    doing: str  # "testing", "next test in 6 s", "paused", ...
    trouble: str = ""  # why no test, or no news


@dataclass(frozen=True, slots=True)
class Screen:
    """A body cut to the height of the terminal, and a line at the bottom that is always there."""

    body: RenderableType
    foot: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw as many lines as there is room for."""
        room = max(1, options.max_height - 1)
        lines = console.render_lines(self.body, options.update(height=None), pad=False)
        if len(lines) > room:
            more = Text(f"{len(lines) - room + 1} more lines: make the window higher", "dim")
            lines = [*lines[: room - 1], *console.render_lines(more, options.update(height=None), pad=False)]
        blank: list[list[Segment]] = [[] for _ in range(room - len(lines))]
        for line in [*lines, *blank]:
            yield from line
            yield Segment.line()
        foot = self.foot.copy()
        foot.truncate(options.max_width, overflow="ellipsis")
        yield from console.render_lines(foot, options.update(height=None), pad=False)[0]


def screen(sight: Sight, width: int) -> Screen:
    """Draw the full screen."""
    return Screen(both_ways(sight, width), _foot(sight))


def both_ways(sight: Sight, width: int) -> RenderableType:
    """Draw a pair's numbers and the hops of both directions."""
    detail = plain(sight.detail)
    profile = detail.forward.grade.profile
    view = path_view(detail, profile)
    there, back = view.sides[0], view.sides[1] if len(view.sides) > 1 else None
    return Group(
        path_head(there, profile, brief=width < BRIEF_BELOW),
        *figures(there, back),
        *_course(sight),
        "",
        _tables(view.sides, width),
        *_notes(view.sides),
    )


def _tables(sides: Sequence[Side], width: int) -> RenderableType:
    if width >= SIDE_BY_SIDE_FROM and len(sides) > 1:
        grid = Table.grid(padding=(0, 4, 0, 0))
        grid.add_row(*(_way(side, width // 2 - 4) for side in sides))
        return grid
    return Group(*(part for side in sides for part in (_way(side, width), "")))


def _way(side: Side, width: int) -> RenderableType:
    row = side.row
    title = Text(f"{row.src} → {row.dst}", "bold cyan")
    return Group(title, hop_table(side.hops, width) if side.hops else Text("No hop answered.", "dim"))


def _notes(sides: Sequence[Side]) -> Iterator[Text]:
    for side in sides:
        if side.elsewhere:
            yield Text(f"Not seen from {side.row.src}, told by {side.row.dst}: {side.elsewhere}.", "dim")


def _course(sight: Sight) -> Iterator[Text]:
    if len(sight.rtts_us) > 1:
        yield Text(f"rounds {bars(sight.rtts_us)}  {_range(sight.rtts_us)}", "dim")
    if sight.route_since_us is not None:
        yield Text(f"The route changed at {text.clock(sight.route_since_us)}: hops count from there.")


def _range(rtts_us: Sequence[int | None]) -> str:
    known = [rtt_us for rtt_us in rtts_us[-MOST_BARS:] if rtt_us is not None]
    lost = f", not reached {text.plural(missed, 'time')}" if (missed := rtts_us.count(None)) else ""
    return f"{text.ms(min(known))} to {text.ms(max(known))}{lost}" if known else lost.removeprefix(", ")


def bars(rtts_us: Sequence[int | None]) -> str:
    """Draw the latest round trips as bars between the least and the greatest of them; x = not reached."""
    shown = rtts_us[-MOST_BARS:]
    known = [rtt_us for rtt_us in shown if rtt_us is not None]
    least, most = min(known, default=0), max(known, default=0)
    # What varies by less than a tenth is drawn flat: noise should not look like a mountain range.
    span = max(most - least, most // 10, 1)
    return "".join("x" if rtt is None else BARS[(len(BARS) - 1) * (rtt - least) // span] for rtt in shown)


def _foot(sight: Sight) -> Text:
    foot = Text(f"{text.plural(sight.rounds, 'round')} · {sight.doing}", "dim")
    foot.append(" · q quits, p pauses", "dim")
    return foot.append(f" · {sight.trouble}", "yellow") if sight.trouble else foot
