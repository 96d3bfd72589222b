"""READ FIRST: what watching TCP sessions finds, and what it costs, beside other ways to do it.

One run, side by side: no agent, pathgrade (eBPF), pathgrade without eBPF (inet_diag), bcc's tcplife, ``ss``
every second. Three parts, each with every watcher::

    accuracy   sessions whose truth their own programs tell (workload.py) ── share seen, share right
    costs      one large storm of connections, eBPF statistics on ── us, CPU s, MB, events lost
    pairs      small storms, without and with: AB BA AB ... ── median of throughput with / without
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benches import machine
from benches.bench import Bench, Report, Say
from benches.cells import accuracy_cells, cost_cells, load_cell, pair_cells, program_lines
from benches.errors import NeedsError, PartError
from benches.figures import Cell, Figure, Target, number, percent
from benches.loads import Work, build_storm
from benches.machine import Runs
from benches.measures import Pair, Rig, accuracy, costs, pair, try_out

NONE: Final = "none"
JUDGED: Final = "ebpf"
HEADINGS: Final = {
    NONE: "no agent",
    JUDGED: "pathgrade",
    "inet_diag": "inet_diag",
    "tcplife": "tcplife",
    "ss": "ss, 1 s",
}
"""Watcher -> how it is called in the table."""

FIGURES: Final = (
    Figure("seen_share", "sessions seen", percent, Target(1.0, at_least=True, timed=False)),
    Figure("right_share", "process and bytes right", percent, Target(1.0, at_least=True, timed=False)),
    Figure("lost", "closes not told, large storm", number(0, ""), Target(0, timed=False)),
    Figure("storm_lost", "same, all storms in pairs", number(0, "")),
    Figure("bare_lost", "same, storms that send nothing", number(0, "")),
    Figure("storm_ratio", "storm: throughput to without", number(3, ""), Target(0.95, at_least=True)),
    Figure("storm_cpu_ratio", "same for a second of all CPU used", number(3, "")),
    Figure("bare_ratio", "storm that sends nothing: same", number(3, "")),
    Figure("kept_ratio", "keep-alive: same", number(3, "")),
    Figure("storm_per_s", "storm: connections a second", number(0, "")),
    Figure("storm_cpu_us", "storm: its own CPU a connection", number(1, "us")),
    Figure("kept_per_s", "keep-alive: requests a second", number(0, "")),
    Figure("bpf_us", "eBPF a connection, both ends", number(2, "us"), Target(4.0)),
    Figure("bpf_ns", "eBPF a run of a program", number(0, "ns")),
    Figure("cpu_s", "CPU per 100,000 connections", number(2, "s"), Target(1.0)),
    Figure("rest_cpu_share", "CPU at rest, of one", percent),
    Figure("rest_mb", "resident at rest", number(1, "MB"), Target(32)),
    Figure("after_mb", "resident after the large storm", number(1, "MB"), Target(32)),
    Figure("anonymous_mb", "of it anonymous", number(1, "MB")),
    Figure("load_s", "load, from the cache", number(3, "s"), Target(0.1)),
    Figure("upload_kb", "upload of the large storm", number(1, "kB")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of each. Fixed counts, so that runs compare."""

    short: int = 600
    long: int = 12
    lasts_s: float = 4.0
    large: Work
    storm: Work  # a request a connection: what a new connection does for a living
    bare: Work  # connect and close
    kept: Work  # many requests on few connections
    judged_pairs: int = 7
    peer_pairs: int = 3


def full(cpus: int) -> Plan:
    """Make the real one: storms of 1.5 to 3 s, on as many pairs of processes as keep all CPUs busy."""
    return Plan(
        large=Work(100_000, 1, cpus),
        storm=Work(20_000 * cpus, 1, cpus),
        bare=Work(25_000 * cpus, 0, cpus),
        kept=Work(2 * cpus, 40_000, cpus),
    )


def quick(cpus: int) -> Plan:
    """Make one that shows that all of it works: what is counted holds, what is timed means nothing."""
    return Plan(
        short=60,
        long=4,
        lasts_s=1.0,
        large=Work(2_000, 1, cpus),
        storm=Work(1_000, 1, cpus),
        bare=Work(1_000, 0, cpus),
        kept=Work(2 * cpus, 500, cpus),
        judged_pairs=2,
        peer_pairs=1,
    )


@dataclass(slots=True)
class Outcome:
    """What came of it: a cell by watcher and figure; what each eBPF program did, by watcher and hook."""

    cells: dict[str, dict[str, Cell]] = field(default_factory=lambda: {kind: {} for kind in HEADINGS})
    programs: dict[str, dict[str, Runs]] = field(default_factory=dict)
    connections: int = 0  # that the programs saw


def run(plan: Plan, rig: Rig, say: Say) -> Outcome:
    """Measure everything, about three minutes for the full plan.

    Raises ``BenchError`` where pathgrade itself does not run; a peer that does not is told with its reason.
    """
    outcome = Outcome(connections=plan.large.connections)
    kinds = _running(rig, outcome, say)
    for kind in kinds:
        _find(plan, rig, kind, outcome, say)
        _cost(plan, rig, kind, outcome, say)
    _compare(plan, rig, kinds, outcome, say)
    return outcome


def _running(rig: Rig, outcome: Outcome, say: Say) -> list[str]:
    """Try every watcher; note the reasons of those that do not run."""
    refusals = {}
    for kind in (kind for kind in HEADINGS if kind != NONE):
        say(f"trying {HEADINGS[kind]}")
        refusals[kind] = try_out(rig, kind)
    if refusals[JUDGED]:
        raise PartError(f"pathgrade does not run here: {refusals[JUDGED]}", remedy="pathgrade agent check")
    for kind, refusal in refusals.items():
        outcome.cells[kind] = dict.fromkeys((figure.key for figure in FIGURES), refusal) if refusal else {}
    return [kind for kind, refusal in refusals.items() if not refusal]


def _find(plan: Plan, rig: Rig, kind: str, outcome: Outcome, say: Say) -> None:
    say(f"{HEADINGS[kind]}: {plan.short + plan.long} sessions whose truth is known")
    found = accuracy(rig, kind, short=plan.short, long=plan.long, lasts_s=plan.lasts_s)
    outcome.cells[kind] |= accuracy_cells(found)
    for line in found.wrong if kind == JUDGED else ():
        say(f"  not right: {line}")


def _cost(plan: Plan, rig: Rig, kind: str, outcome: Outcome, say: Say) -> None:
    say(f"{HEADINGS[kind]}: a storm of {plan.large.connections:,} connections")
    cost = costs(rig, kind, plan.large)
    outcome.cells[kind] |= cost_cells(cost)
    outcome.programs[kind] = cost.programs


def _compare(plan: Plan, rig: Rig, kinds: Sequence[str], outcome: Outcome, say: Say) -> None:
    for name, work in (("storm", plan.storm), ("kept", plan.kept), ("bare", plan.bare)):
        # A storm that sends nothing exaggerates; the peers are spared it.
        pairs = {kind: _pairs(plan, rig, kind, work, say) for kind in kinds if work.rounds or kind == JUDGED}
        for kind, cells in pair_cells(name, pairs, none=NONE).items():
            outcome.cells[kind] |= cells
        if name == "storm":
            for kind, found in pairs.items():
                outcome.cells[kind]["load_s"] = load_cell(found)


def _pairs(plan: Plan, rig: Rig, kind: str, work: Work, say: Say) -> list[Pair]:
    count = plan.judged_pairs if kind == JUDGED and work.rounds else plan.peer_pairs
    say(f"{HEADINGS[kind]}: {count} pairs of {work.connections:,} connections, {work.rounds} requests each")
    return [pair(rig, kind, work, turn) for turn in range(count)]


def _measure(quick_run: bool, folder: Path, say: Say) -> Report:
    plan = (quick if quick_run else full)(max(2, os.cpu_count() or 2))
    outcome = run(plan, Rig(storm=build_storm(folder), folder=folder), say)
    more = {
        "programs": {
            kind: {hook: runs._asdict() for hook, runs in found.items()}
            for kind, found in outcome.programs.items()
        },
        "connections": outcome.connections,
    }
    return Report(outcome.cells, _details(outcome), more)


def _details(outcome: Outcome) -> list[str]:
    lines = ["ratios: median (least..greatest) of pairs; 'no agent': how far its own runs lie apart"]
    for kind, programs in outcome.programs.items():
        if programs:
            lines += [f"\neBPF of {HEADINGS[kind]}, per connection"]
            lines += [program_lines(programs, outcome.connections)]
    return lines


def _needs() -> None:
    if not machine.BTF.exists():
        raise NeedsError(f"there is no {machine.BTF}", remedy="boot a kernel with CONFIG_DEBUG_INFO_BTF=y")


BENCH: Final = Bench(
    name="passive",
    words="watching TCP sessions: what is seen, what it costs",
    description=__doc__.partition(": ")[2],
    figures=FIGURES,
    headings=HEADINGS,
    judged=JUDGED,
    needs=_needs,
    measure=_measure,
)
