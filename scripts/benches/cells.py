"""From measurements to the cells of the table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from benches.figures import Cell, ratio, spread
from benches.machine import Runs
from benches.measures import Accuracy, Costs, Pair


def accuracy_cells(found: Accuracy) -> dict[str, Cell]:
    """Say what share was seen, and what share rightly."""
    return {"seen_share": found.shares.seen_share, "right_share": found.shares.right_share}


def cost_cells(cost: Costs) -> dict[str, Cell]:
    """Bring costs to one connection, or to 100,000."""
    told = cost.told
    return {
        "lost": told.lost,
        "cpu_s": told.cpu_s * 100_000 / cost.connections,
        "rest_cpu_share": cost.rest_cpu_share,
        "rest_mb": cost.at_rest and cost.at_rest.resident,
        "after_mb": cost.afterwards and cost.afterwards.resident,
        "anonymous_mb": cost.afterwards and cost.afterwards.anonymous,
        "upload_kb": None if told.uploaded_bytes is None else told.uploaded_bytes / 1000,
        **program_cells(cost.programs, cost.connections),
    }


def program_cells(programs: Mapping[str, Runs], connections: int) -> dict[str, Cell]:
    """Sum up all programs, those of the snapshots included; none where a watcher has no programs."""
    count = sum(did.runs for did in programs.values())
    time_ns = sum(did.time_ns for did in programs.values())
    if not count:
        return {}
    return {"bpf_us": time_ns / 1000 / connections, "bpf_ns": time_ns / count}


def pair_cells(name: str, pairs: Mapping[str, Sequence[Pair]], *, none: str) -> dict[str, dict[str, Cell]]:
    """Compare storms; column ``none`` tells how far the runs without any watcher lie apart."""
    cells = {kind: _kind_cells(name, found) for kind, found in pairs.items()}
    alone = [one.without for found in pairs.values() for one in found]
    cells[none] = {
        f"{name}_ratio": spread([one.per_s for one in alone]),
        f"{name}_cpu_ratio": spread([1 / one.cpu_us for one in alone]),
        f"{name}_per_s": median(one.per_s for one in alone),
        f"{name}_cpu_us": median(one.cpu_us for one in alone),
    }
    return cells


def _kind_cells(name: str, pairs: Sequence[Pair]) -> dict[str, Cell]:
    return {
        f"{name}_ratio": ratio([one.throughputs for one in pairs]),
        f"{name}_cpu_ratio": ratio([one.cpu_throughputs for one in pairs]),
        f"{name}_per_s": median(one.with_it.storm.per_s for one in pairs),
        f"{name}_cpu_us": median(one.with_it.storm.cpu_us for one in pairs),
        f"{name}_lost": _sum_known([one.with_it.lost for one in pairs]),
    }


def _sum_known(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def load_cell(pairs: Sequence[Pair]) -> Cell:
    """Tell how long loading took, the middle of all starts; None where there is nothing to load."""
    told = [one.with_it.load_s for one in pairs if one.with_it.load_s is not None]
    return median(told) if told else None


def program_lines(programs: Mapping[str, Runs], connections: int) -> str:
    """Lay out what each program did, the costliest first."""
    rows = sorted(programs.items(), key=lambda item: item[1].time_ns, reverse=True)
    return "\n".join(_program_line(hook, did, connections) for hook, did in rows if did.runs)


def _program_line(hook: str, did: Runs, connections: int) -> str:
    each_ns, each_us = did.time_ns / did.runs, did.time_ns / 1000 / connections
    left_out = f"  {did.left_out} left out" if did.left_out else ""
    return (
        f"  {hook:<26} {did.runs / connections:6.2f} runs x {each_ns:6.0f} ns = {each_us:5.2f} us{left_out}"
    )
