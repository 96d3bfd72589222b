"""READ FIRST: how often the shared cause of bad paths is named, and how long a large fleet takes.

Simulated fleets whose cause is known: a site's uplink, one host, the relay, a region, the way between two
sites, two of them at once, or none at all. A faulty part makes 97 of 100 paths through it bad; one path in a
hundred is bad for reasons of its own. The hops of 60 of 100 bad paths point at a part, and 9 in 10 of those
at the right one. Whole findings are made (``analytics/findings.py``) from the rows of a report.

Beside it, what a first script would do: look at every path, and name each part of which 8 paths in 10 are
bad.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Final

import msgspec

from analytics.findings import findings
from analytics.measurement import Grade, Leg, LegKind, Letter, Rung
from analytics.shapes import Member, PathRow
from analytics.tomography import Kind, Part, parts_of
from benches.bench import Bench, Report, Say, nothing_needed
from benches.figures import Cell, Factor, Figure, Target, number, percent

SEED: Final = 20261125
TRIALS: Final = 105
QUICK_TRIALS: Final = 14
BAD_IF_FAULTY: Final = 0.97
BAD_ANYWAY: Final = 0.01
POINTS: Final = 0.6
POINTS_RIGHT: Final = 0.9
NAIVE_SHARE: Final = 0.8
RUNS: Final = 3
"""The quickest counts: it computes only, and whatever else runs can but slow it down."""
LARGE: Final = 1_000
SMALL: Final = 60

CASES: Final[tuple[tuple[Kind, ...], ...]] = (
    (Kind.UPLINK,),
    (Kind.HOST,),
    (Kind.RELAY,),
    (Kind.REGION,),
    (Kind.TRANSIT,),
    (Kind.UPLINK, Kind.HOST),
    (),
)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Agents, ten to a site and ten sites to a region at most; a third of the sites is behind a relay."""

    members: Sequence[Member]
    sites: dict[str, str]
    pairs: Sequence[tuple[str, str]]
    relayed: frozenset[tuple[str, str]]


def fleet(agents: int) -> Fleet:
    """Make one; names say the site, sites say the region."""
    per_site = 10 if agents >= LARGE else 4
    sites = {f"a{n}": f"r{n // per_site // 5}.s{n // per_site}" for n in range(agents)}
    behind = {site for site in sites.values() if int(site.rpartition("s")[2]) % 3 == 0}
    pairs = list(permutations(sites, 2))
    relayed = frozenset(
        pair
        for pair in pairs
        if sites[pair[0]] != sites[pair[1]] and sites[pair[0]] in behind and sites[pair[1]] in behind
    )
    return Fleet([Member(name=name, site=site) for name, site in sites.items()], sites, pairs, relayed)


def cause(draw: random.Random, of: Fleet, kind: Kind) -> Part:
    """Choose a part of a kind."""
    names = sorted(set(of.sites.values()))
    where: dict[Kind, Callable[[], str]] = {
        Kind.HOST: lambda: draw.choice(sorted(of.sites)),
        Kind.UPLINK: lambda: draw.choice(names),
        Kind.REGION: lambda: draw.choice(names).rpartition(".")[0],
        Kind.RELAY: str,
        Kind.TRANSIT: lambda: " and ".join(sorted(draw.sample(names, 2))),
    }
    return Part(kind, where[kind]())


_GOOD: Final = Grade(profile="pacs", letter=Letter.A)
_BAD: Final = Grade(profile="pacs", letter=Letter.D)
_ROW: Final = PathRow(
    src="",
    dst="",
    src_site="",
    dst_site="",
    grade=_GOOD,
    at_us=1,
    age_s=1,
    rung=Rung.SRFLX,
    rungs_failed="",
    rtt_min_us=1_000,
    rtt_p50_us=1_000,
    rtt_p95_us=1_000,
    rtt_n=300,
    loss_bp=0,
    loss_back_bp=0,
    sent=300,
    received=300,
    ipdv_us=None,
    capacity_kbps=None,
    capacity_trust="none",
    stamps="kernel",
    connect_us=None,
    error="",
    legs=[],
)


def rows(draw: random.Random, of: Fleet, wrong: Sequence[Part]) -> list[PathRow]:
    """Make the report's rows of a cycle in which those parts are at fault."""
    return [_row(draw, of, pair, set(wrong)) for pair in of.pairs]


def _row(draw: random.Random, of: Fleet, pair: tuple[str, str], wrong: set[Part]) -> PathRow:
    faulty = [part for part in parts_of(pair, of.sites, of.relayed) if part in wrong] if wrong else []
    is_bad = draw.random() < (BAD_IF_FAULTY if faulty else BAD_ANYWAY)
    legs: list[Leg] = []
    if is_bad and draw.random() < POINTS:
        right = bool(faulty) and draw.random() < POINTS_RIGHT
        legs = _legs(faulty[0] if right else None, pair, draw)
    return msgspec.structs.replace(
        _ROW,
        src=pair[0],
        dst=pair[1],
        src_site=of.sites[pair[0]],
        dst_site=of.sites[pair[1]],
        grade=_BAD if is_bad else _GOOD,
        rung=Rung.RELAY_UDP if pair in of.relayed else Rung.SRFLX,
        legs=legs,
    )


def _legs(part: Part | None, pair: tuple[str, str], draw: random.Random) -> list[Leg]:
    """Most of the time in the leg that the part is; any leg where the hops are wrong."""
    host = LegKind.SOURCE_HOST if part and part.where == pair[0] else LegKind.DESTINATION_HOST
    kinds = {Kind.HOST: host, Kind.UPLINK: LegKind.SOURCE_ACCESS}
    kind = kinds.get(part.kind, LegKind.TRANSIT) if part else draw.choice(list(LegKind))
    return [Leg(kind=one, site="", rtt_us=9_000 if one is kind else 100) for one in LegKind]


def naive(made: Sequence[PathRow], of: Fleet) -> list[Part]:
    """Name every part of which 8 paths in 10 are bad, from all parts of all paths."""
    crossing: Counter[Part] = Counter()
    bad: Counter[Part] = Counter()
    for row in made:
        parts = parts_of((row.src, row.dst), of.sites, of.relayed)
        crossing.update(parts)
        if row.grade.letter is Letter.D:
            bad.update(parts)
    return [part for part, count in bad.items() if count >= NAIVE_SHARE * crossing[part] and count > 1]


def ours(made: Sequence[PathRow], of: Fleet) -> list[Part]:
    """The product's findings."""
    return [Part(Kind(found.kind), found.where) for found in findings(made, of.members)]


Judge = Callable[[Sequence[PathRow], Fleet], list[Part]]
JUDGES: Final[dict[str, Judge]] = {"pathgrade": ours, "naive": naive}


def named(judge: Judge, trials: int, seed: int = SEED) -> dict[str, Cell]:
    """Precision and recall over all cases, and recall by kind."""
    draw, of = random.Random(seed), fleet(SMALL)
    hits, said, true, by_kind = 0, 0, 0, dict.fromkeys(Kind, (0, 0))
    for n in range(trials):
        wrong = [cause(draw, of, kind) for kind in CASES[n % len(CASES)]]
        found = judge(rows(draw, of, wrong), of)
        hits += len(set(found) & set(wrong))
        said += len(found)
        true += len(wrong)
        for part in wrong:
            right, all_of = by_kind[part.kind]
            by_kind[part.kind] = (right + (part in found), all_of + 1)
    recalls = {f"recall_{kind}": right / all_of for kind, (right, all_of) in by_kind.items() if all_of}
    return {"precision": hits / said if said else 1.0, "recall": hits / true, **recalls}


def seconds(judge: Judge, kind: Kind, agents: int) -> tuple[float, int, bool]:
    """How long the findings of a fleet take, how many paths were bad, and whether the cause is named."""
    draw, of = random.Random(SEED), fleet(agents)
    wrong = cause(draw, of, kind)
    made = rows(draw, of, [wrong])
    bad = sum(row.grade.letter is Letter.D for row in made)
    took_s, found = [], list[Part]()
    for _ in range(RUNS):
        began_s = time.perf_counter()
        found = judge(made, of)
        took_s.append(time.perf_counter() - began_s)
    return min(took_s), bad, wrong in found


COLUMN: Final = "pathgrade"
TIMED: Final = (Kind.UPLINK, Kind.HOST, Kind.RELAY, Kind.REGION)
FIGURES: Final = (
    Figure("precision", "causes named that are true", percent, Target(0.95, at_least=True, timed=False)),
    Figure("recall", "true causes that are named", percent, Target(0.95, at_least=True, timed=False)),
    *(Figure(f"recall_{kind}", f"of them, {kind}", percent) for kind in Kind),
    *(
        Figure(f"s_{kind}", f"all findings of {LARGE:,} agents, {kind} at fault", number(2, "s"), Target(2.0))
        for kind in TIMED
    ),
    Figure("slower", "time, as a multiple of pathgrade's", number(1, "x")),
)


def measure(quick: bool, _folder: Path, say: Say) -> Report:
    """Simulate all of it."""
    trials, agents = (QUICK_TRIALS, 200) if quick else (TRIALS, LARGE)
    cells: dict[str, dict[str, Cell]] = {}
    details, total_s = [], dict.fromkeys(JUDGES, 0.0)
    for name, judge in JUDGES.items():
        say(f"{name}: {trials} fleets of {SMALL} agents")
        cells[name] = named(judge, trials)
        for kind in TIMED:
            say(f"{name}: {agents * (agents - 1):,} paths, {kind} at fault")
            took_s, bad, right = seconds(judge, kind, agents)
            cells[name][f"s_{kind}"] = took_s
            total_s[name] += took_s
            details.append(
                f"{name}: {kind}, {agents * (agents - 1):,} paths, {bad:,} bad: {took_s:.2f} s, "
                f"{'named' if right else 'NOT named'}"
            )
    cells["naive"]["slower"] = Factor(total_s["naive"] / total_s[COLUMN])
    return Report(cells, details, {})


BENCH: Final = Bench(
    name="tomography",
    words="how often the shared cause of bad paths is named, and how fast",
    description=__doc__ or "",
    figures=FIGURES,
    headings={COLUMN: "pathgrade", "naive": "part by part"},
    judged=COLUMN,
    needs=nothing_needed,
    measure=measure,
)
