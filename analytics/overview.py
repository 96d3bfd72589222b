"""What a page shows of a whole fleet, bounded: a front page, one agent's paths, the matrix as packed cells.

READ FIRST: ``Overview``, ``MatrixCells``, ``AgentPaths``. They are cut from a small fleet's report
(``analytics/cut.py``) or laid out from a large one's board (``analytics/board.py``); who shows them sees no
difference, but that the lists are shorter and say of how many.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal

import msgspec

from analytics.measurement import Letter, Rung
from analytics.shapes import Finding, Member, PathRow, Verdict

WORST_SHOWN: Final = 200
"""Rows of a list of the worst."""
PLACES_SHOWN: Final = 200
"""Workplaces that are named one by one; all are counted."""
SITE_PAIRS_SHOWN: Final = 2_500
"""Fifty sites with each other: more than a picture shows."""
AGENT_PATHS_SHOWN: Final = 200
"""Of one agent, each way."""
RUNGS: Final = tuple(Rung)
"""Rung of each code in a matrix."""
BLANK: Final = " "
"""In a matrix of letters: nothing is known of the path, or it is the agent itself."""

Can = Literal["cannot", "unknown", "can"]


class LetterCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many paths have a letter."""

    letter: Letter
    paths: int


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One workplace: whether people there can use the services of the profile."""

    agent: str
    site: str
    label: str  # empty = the agent's name
    online: bool
    can: Can
    service: str  # that of the row; empty without one
    row: PathRow | None  # its worst path from a service; None: not measured, or beyond what is looked at


class SitePaths(msgspec.Struct, frozen=True, kw_only=True):
    """All paths from one site to another (or within one)."""

    src_site: str
    dst_site: str
    paths: int
    cannot: int  # with D, F or X
    unknown: int  # with ?
    rungs: dict[str, int]  # rung -> paths; those in use only
    rtt_p50_us: int | None  # median of the paths' medians


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet for one profile at a moment, to be shown on one page."""

    tenant: str
    profile: str
    at_us: int
    rules_version: str
    revision: str  # of what is shown: equal revisions show the same, but for ages
    verdict: Verdict
    findings: list[Finding]  # what explains most first
    bad: int  # paths that are bad (D, F, X) or slower than usual
    looked_at: int  # of them, those that the findings were looked for in: the worst ones
    paths: int  # directed paths that are measured and that the profile is for
    expected: int  # directed pairs of the fleet
    letters: list[LetterCount]  # of all paths, worst first; letters that none has are left out
    relayed: int  # paths through a relay
    places: list[Place]  # those who cannot first, then not known, then can; worst first in each
    places_of: dict[str, int]  # cannot, unknown, can -> how many workplaces there are of each
    worst: list[PathRow]  # in the order of a report, cut at ``WORST_SHOWN``
    members: list[Member]  # by name

    @property
    def whole(self) -> bool:
        """Whether the findings were looked for in all bad paths."""
        return self.looked_at == self.bad


class Metric(StrEnum):
    """What a matrix shows in its cells."""

    LETTER = "letter"
    RTT = "rtt"
    LOSS = "loss"
    LOSS_BACK = "loss-back"
    RUNG = "rung"
    AGE = "age"


class Packing(msgspec.Struct, frozen=True):
    """How a metric's cells are packed: little endian, unsigned."""

    cell_bytes: int  # 1, 2 or 4
    unit: str
    none: int  # this value: not measured

    @property
    def most(self) -> int:
        """The greatest value that a cell can say."""
        return (1 << 8 * self.cell_bytes) - 2


PACKINGS: Final[Mapping[Metric, Packing]] = {
    Metric.LETTER: Packing(1, "letter", ord(BLANK)),  # ASCII: A B C D F X ?
    Metric.RTT: Packing(4, "us", 0xFFFFFFFF),  # median round trip
    Metric.LOSS: Packing(2, "bp", 0xFFFF),  # source -> destination
    Metric.LOSS_BACK: Packing(2, "bp", 0xFFFF),  # destination -> source, in the same test
    Metric.RUNG: Packing(1, "rung", 0xFF),  # place in ``RUNGS``
    Metric.AGE: Packing(4, "s", 0xFFFFFFFF),  # since the test ended
}


class MatrixCells(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of all paths: a row for each source, a column for each destination, no gaps."""

    profile: str
    metric: Metric
    at_us: int
    revision: str
    agents: list[str]  # of rows and of columns: by site, then by name
    sites: list[str]  # of each agent
    rungs: list[str]  # rung of each code
    packing: Packing
    cells: bytes  # len(agents) ** 2 * packing.cell_bytes


class PathBrief(msgspec.Struct, frozen=True, kw_only=True):
    """One directed path in a long list."""

    src: str
    dst: str
    src_site: str
    dst_site: str
    letter: Letter
    outcome: int | None  # in ``unit``
    unit: str
    rung: Rung
    rtt_p50_us: int | None
    loss_bp: int | None
    loss_back_bp: int | None
    age_s: int
    stale: bool


class AgentPaths(msgspec.Struct, frozen=True, kw_only=True):
    """The paths of one agent, worst first, cut; and counts of all."""

    agent: str
    profile: str
    at_us: int
    revision: str
    out: list[PathBrief]  # agent -> others
    into: list[PathBrief]  # others -> agent
    out_of: int  # paths altogether
    into_of: int
    out_letters: list[LetterCount]
    into_letters: list[LetterCount]


class Worst(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the ranked list of all paths."""

    profile: str
    at_us: int
    revision: str
    rows: list[PathRow]
    next: int | None  # where the next piece begins; None: nothing more is listed
    listed: int  # rows that can be listed: of a large fleet the worst few thousand
    paths: int  # paths altogether
