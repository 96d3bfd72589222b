"""The mesh bench's figures and targets, and what they mean for other fleets. Pure: numbers in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec

from analytics.wire import ProbePlan
from benches.figures import Cell, Figure, Target, number, percent
from server.budget import Choice, Fleet, budget_of, choose, cost_of, cycles_to_see_all, depths
from server.settings import Settings

CYCLE_S: Final = 300
BUDGET_CPU_BP: Final = 190
"""Of one core: room for the light tests of a hundred agents in one cycle, and no more."""
MESH_AGENTS: Final = 50

COLUMN: Final = "fleet"
SIZES: Final = (10, 30, 100, 300, 1_000)
LARGE: Final = 1_000

_PLANS: Final = depths(ProbePlan())
_CPU_BP: Final = Settings.model_fields["budget_cpu_bp"].default
_BYTES_PER_HOUR: Final = Settings.model_fields["budget_bytes_per_hour"].default

FIGURES: Final = (
    Figure("complete", "directed results of one cycle / those due", percent, Target(1.0, True, False)),
    Figure("reached", "of them reached the other end", percent, Target(1.0, True, False)),
    Figure("wall_s", "the cycle, wall time", number(1, "s")),
    Figure("agent_cpu_s", "CPU per agent in the cycle", number(2, "s")),
    Figure("test_cpu_ms", "CPU per test and end", number(1, "ms")),
    Figure("rest_share", "CPU per agent at rest", lambda share: f"{100 * share:.3f} %"),
    Figure(
        "rss_mb", "memory per agent, passive on (greatest RSS)", number(1, "MB"), Target(64.0, False, False)
    ),
    Figure("bare_rss_mb", "memory per agent, passive off (greatest RSS)", number(1, "MB")),
    Figure("own_mb", "of it not shared with files (mean)", number(1, "MB")),
    Figure("server_cpu_s", "CPU of the server in the cycle", number(2, "s")),
    Figure("server_test_ms", "CPU of the server per pair", number(1, "ms")),
    Figure("server_rss_mb", "memory of the server (RSS)", number(0, "MB")),
    Figure(
        "large_share", "an agent of 1,000 at the default budget", lambda s: f"{100 * s:.2f} %", Target(0.01)
    ),
    Figure("pair_s", "one pair on demand, command and all (median)", number(2, "s"), Target(3.0)),
    Figure("pair_worst_s", "the slowest of them", number(2, "s"), Target(3.0)),
    Figure("mesh_s", "a mesh of 50 on demand", number(1, "s"), Target(90.0)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the run came to. CPU in seconds, memory in MB (10^6 bytes)."""

    agents: int
    passive: int
    results: int  # directed results of the cycle
    reached: int  # of them, those with a rung
    skipped: int  # pairs
    wall_s: float
    agent_cpu_s: float  # mean, in the cycle
    agent_rest_share: float  # of one core, without tests
    agent_rss_mb: float  # greatest of those with passive capture
    agent_bare_rss_mb: float | None  # greatest of those without
    agent_own_mb: float  # mean of what is not shared with files
    server_cpu_s: float
    server_rest_share: float
    server_rss_mb: float
    pair_s: list[float]
    mesh_agents: int
    mesh_pairs: int
    mesh_s: float
    mesh_failed: int

    @property
    def test_cpu_s(self) -> float:
        """CPU of one end of one test, all that rests taken off."""
        tests = self.results / self.agents
        return (self.agent_cpu_s - self.agent_rest_share * self.wall_s) / tests

    @property
    def server_test_cpu_s(self) -> float:
        """CPU of the server for one pair, its two uploads included."""
        return (self.server_cpu_s - self.server_rest_share * self.wall_s) / (self.results / 2)


class Row(NamedTuple):
    """What a fleet of some size has of the default budget."""

    agents: int
    tests: float  # of an agent in a cycle
    full_share: float
    all_in_s: float  # until every path was visited
    cpu_share: float  # of a core, of each agent
    mb_per_hour: float
    server_share: float  # of a core


def cells(measured: Measured) -> dict[str, Cell]:
    """Bring what was measured into the table's figures."""
    due = measured.agents * (measured.agents - 1)
    fifty = measured.mesh_agents == MESH_AGENTS
    return {
        "complete": measured.results / due,
        "reached": measured.reached / measured.results if measured.results else 0.0,
        "wall_s": measured.wall_s,
        "agent_cpu_s": measured.agent_cpu_s,
        "test_cpu_ms": 1e3 * measured.test_cpu_s,
        "rest_share": measured.agent_rest_share,
        "rss_mb": measured.agent_rss_mb if measured.passive else None,
        "bare_rss_mb": measured.agent_bare_rss_mb,
        "own_mb": measured.agent_own_mb,
        "server_cpu_s": measured.server_cpu_s,
        "server_test_ms": 1e3 * measured.server_test_cpu_s,
        "server_rss_mb": measured.server_rss_mb,
        "large_share": row(LARGE, measured).cpu_share,
        "pair_s": median(measured.pair_s),
        "pair_worst_s": max(measured.pair_s),
        "mesh_s": measured.mesh_s if fifty and not measured.mesh_failed else None,
    }


def row(agents: int, measured: Measured) -> Row:
    """Plan a cycle for so many agents, with a site each, as the server does; its costs as measured."""
    dearness = _dearness(measured)
    chosen = _cycle(agents, _CPU_BP, dearness)
    full = sum(choice.full for choice in chosen)
    return Row(
        agents=agents,
        tests=2 * len(chosen) / agents,
        full_share=full / len(chosen) if chosen else 0.0,
        all_in_s=CYCLE_S * cycles_to_see_all(agents * (agents - 1) // 2, len(chosen)),
        cpu_share=dearness * _each(chosen, agents, "cpu_us") / 1e6 / CYCLE_S + measured.agent_rest_share,
        mb_per_hour=_each(chosen, agents, "bytes") * 3_600 / CYCLE_S / 1e6,
        server_share=len(chosen) * measured.server_test_cpu_s / CYCLE_S
        + measured.server_rest_share * agents / measured.agents,
    )


def _dearness(measured: Measured) -> float:
    """Compare what the cycle's tests cost with what the server expects of them."""
    chosen = _cycle(measured.agents, BUDGET_CPU_BP, 1.0)
    tests = 2 * len(chosen) / measured.agents
    # No run says it to more than three digits, and with them a plan can be used again.
    return round(measured.test_cpu_s * 1e6 / (_each(chosen, measured.agents, "cpu_us") / tests), 3)


@lru_cache(maxsize=16)  # a second for a large fleet, and a table asks for the same ones again and again
def _cycle(agents: int, cpu_bp: int, dearness: float) -> Sequence[Choice]:
    budget = budget_of(period_s=CYCLE_S, cpu_bp=cpu_bp, bytes_per_hour=_BYTES_PER_HOUR)
    sites = {f"a{n:04d}": f"s{n:04d}" for n in range(agents)}
    return tuple(choose(Fleet(sites=sites, dearness=dict.fromkeys(sites, dearness)), _PLANS, budget, seed=0))


def _each(chosen: Sequence[Choice], agents: int, what: str) -> float:
    """Sum a cost over a cycle, for each of so many agents."""
    full: int = getattr(cost_of(_PLANS.full), what)
    light: int = getattr(cost_of(_PLANS.light), what)
    return 2 * sum(full if choice.full else light for choice in chosen) / agents


HEADS: Final = (
    "agents", "tests a cycle", "in full", "every path within", "CPU an agent", "sent an agent", "CPU server",
)  # fmt: skip
ASSUMPTIONS: Final = (
    f"assumed: a site each, cycles of {CYCLE_S} s, the default budget ({_CPU_BP / 100:g} % of a core and"
    f" {_BYTES_PER_HOUR / 1e6:.0f} MB an hour for tests),",
    "nothing marked, nothing changed, direct paths, agents as fast as here; a full test costs as many times",
    "a light one as the server expects, the server itself grows with the tests, at rest with the agents",
)


def extrapolated(measured: Measured) -> str:
    """Say what the default budget means for fleets of other sizes."""
    rows = [list(HEADS), *(_written(row(size, measured)) for size in SIZES)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.rjust(w) for c, w in zip(cells_, widths, strict=True)) for cells_ in rows]
    return "\n".join(["the default budget in other fleets:", *lines, *ASSUMPTIONS])


def _written(one: Row) -> list[str]:
    return [
        f"{one.agents:,}",
        f"{one.tests:.0f}",
        f"{100 * one.full_share:.0f} %",
        f"{one.all_in_s / 60:.0f} min",
        f"{100 * one.cpu_share:.2f} %",
        f"{one.mb_per_hour:.1f} MB/h",
        f"{100 * one.server_share:.1f} %",
    ]


def figures(agents: int) -> tuple[Figure, ...]:
    """List the figures; the mesh of fifty is judged where there are fifty."""
    if agents >= MESH_AGENTS:
        return FIGURES
    return tuple(figure._replace(target=None) if figure.key == "mesh_s" else figure for figure in FIGURES)


def more(measured: Measured) -> dict[str, Any]:
    """Give what the table has no room for."""
    return {
        "measured": msgspec.to_builtins(measured),
        "fleets": [row(size, measured)._asdict() for size in SIZES],
    }
