"""What a fleet's report says in numbers: by site, bounded; path by path only where that was asked for. Pure.

However large a fleet is, the number of series is bounded: by sites (``MOST_SITES``), pairs of sites
(``MOST_SITE_PAIRS``) and paths (``MOST_PATHS``); what is left out is counted.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from analytics.measurement import Letter
from analytics.overview import PACKINGS, MatrixCells, Overview, SitePaths
from analytics.shapes import Member, PathRow
from server.metrics.family import Family, Labels, family, labels

MOST_SITES: Final = 200
MOST_SITE_PAIRS: Final = 1_000
MOST_PATHS: Final = 1_000
US: Final = 1e6
BP: Final = 1e4
_ORDER: Final = "ABCDFX"
"""A path's letter as a number: 0 for A ... 4 for F, 5 for X; none for what is not known."""
_CODES: Final = {1: "B", 2: "H", 4: "I"}


def agents(members: Sequence[Member]) -> Family:
    """How many agents of each site are on line, and away."""
    counts = Counter((member.site, "online" if member.online else "away") for member in members)
    sites = {member.site for member in members}
    told = {
        labels(site=site, state=state): counts[site, state]
        for site in sorted(sites)[:MOST_SITES]
        for state in ("online", "away")
    }
    return family("pathgrade_agents", "Enrolled agents by site and state", told)


def verdicts(overviews: Mapping[str, Overview]) -> list[Family]:
    """Who can work, and the causes of bad paths, for each profile."""
    places = {
        labels(profile=profile, state=state): one.places_of.get(state, 0)
        for profile, one in overviews.items()
        for state in ("can", "cannot", "unknown")
    }
    findings = {labels(profile=profile): len(one.findings) for profile, one in overviews.items()}
    bad = {labels(profile=profile): one.bad for profile, one in overviews.items()}
    return [
        family(
            "pathgrade_workplaces", "Workplaces that can use the services of a profile, or cannot", places
        ),
        family("pathgrade_findings", "Causes that bad paths share", findings),
        family("pathgrade_bad_paths", "Directed paths that are bad, or slower than usual", bad),
    ]


def site_letters(letters: Mapping[str, MatrixCells]) -> Family:
    """Paths from each site by letter."""
    told: dict[Labels, float] = {}
    for profile, cells in letters.items():
        for site, first, last in list(_sites(cells))[:MOST_SITES]:
            row = cells.cells[first * len(cells.agents) : last * len(cells.agents)]
            for letter in Letter:
                told[labels(profile=profile, site=site, letter=letter.value)] = row.count(
                    letter.value.encode()
                )
    return family("pathgrade_site_paths", "Directed paths from a site, by letter", told)


def site_losses(loss: MatrixCells) -> Family:
    """Mean loss of the paths from each site; nothing where nothing was measured."""
    return family(
        "pathgrade_site_loss_ratio",
        "Packets lost on the way from a site, mean of its paths",
        {labels(site=site): mean / BP for site, mean in _means(loss).items()},
    )


def _means(cells: MatrixCells) -> dict[str, float]:
    """The mean of each site's rows, where it has a value."""
    packing = PACKINGS[cells.metric]
    values = array(_CODES[packing.cell_bytes])
    values.frombytes(cells.cells)
    size, means = len(cells.agents), dict[str, float]()
    for site, first, last in list(_sites(cells))[:MOST_SITES]:
        row = values[first * size : last * size]
        blank = row.count(packing.none)
        if blank < len(row):
            means[site] = (sum(row) - blank * packing.none) / (len(row) - blank)
    return means


def _sites(cells: MatrixCells) -> Iterator[tuple[str, int, int]]:
    """Each site with its rows: agents stand by site."""
    at = 0
    for site, members in groupby(cells.sites):
        count = len(list(members))
        yield site, at, at + count
        at += count


def site_pairs(profile: str, sites: Sequence[SitePaths]) -> list[Family]:
    """Round trips between sites, those with the most bad paths first, and how many are left out."""
    shown = sites[:MOST_SITE_PAIRS]
    rtts = {
        labels(src_site=one.src_site, dst_site=one.dst_site): one.rtt_p50_us / US
        for one in shown
        if one.rtt_p50_us is not None
    }
    cannot = {
        labels(profile=profile, src_site=one.src_site, dst_site=one.dst_site): one.cannot for one in shown
    }
    rungs: Counter[str] = Counter()
    for pair in sites:
        rungs.update(pair.rungs)
    left = len(sites) - len(shown)
    return [
        family("pathgrade_site_rtt_seconds", "Median of the median round trips between two sites", rtts),
        family("pathgrade_site_bad_paths", "Directed paths between two sites with D, F or X", cannot),
        family("pathgrade_rung_paths", "Directed paths by how they are reached",
               {labels(rung=rung): count for rung, count in sorted(rungs.items())}),
        family("pathgrade_site_pairs_left_out", "Pairs of sites beyond what is told", left),
    ]  # fmt: skip


def paths(profile: str, rows: Sequence[PathRow], of: int) -> list[Family]:
    """The worst paths one by one."""
    shown = rows[:MOST_PATHS]
    return [
        family("pathgrade_path_rtt_seconds", "Round trips of a directed path", _rtts(shown)),
        family(
            "pathgrade_path_loss_ratio",
            "Packets lost from source to destination",
            {_ends(row): None if row.loss_bp is None else row.loss_bp / BP for row in shown},
        ),
        family(
            "pathgrade_path_grade",
            "Letter of a directed path: 0 A, 1 B, 2 C, 3 D, 4 F, 5 X",
            {(("profile", profile), *_ends(row)): _number(row.grade.letter) for row in shown},
        ),
        family("pathgrade_paths_left_out", "Directed paths beyond what is told", of - len(shown)),
    ]


def _rtts(rows: Sequence[PathRow]) -> dict[Labels, float | None]:
    stats = {"min": "rtt_min_us", "p50": "rtt_p50_us", "p95": "rtt_p95_us"}
    return {
        (*_ends(row), ("stat", stat)): None if (us := getattr(row, name)) is None else us / US
        for row in rows
        for stat, name in stats.items()
    }


def _ends(row: PathRow) -> Labels:
    return labels(src=row.src, dst=row.dst)


def _number(letter: Letter) -> float | None:
    return None if letter is Letter.UNKNOWN else float(_ORDER.index(letter.value))
