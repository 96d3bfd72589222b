"""The mesh: a fleet of real agents completes a cycle: how long it takes, and what it costs each of them.

Every agent stands in a namespace and at a site of its own; one router joins all; nothing is emulated. The
server chooses the tests as it does anywhere, but from a larger CPU budget (1.9 % of a core), which has room
for the mesh of a hundred in one cycle; what the default budget gives stands in the second table. After the
cycle some pairs, and then a mesh of fifty, are tested on demand.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import msgspec

from benches import machine, mesh_table
from benches.bench import Bench, Report, Say
from benches.errors import NeedsError, PartError
from benches.mesh_fleet import Fleet, fleet
from benches.mesh_table import BUDGET_CPU_BP, CYCLE_S, MESH_AGENTS, Measured

AGENTS: Final = 100
QUICK_AGENTS: Final = 10
TESTS_AT_ONCE: Final = 16
"""For each CPU: both ends of a test run here. With more, tests wait for a CPU and not for the network."""
PASSIVE: Final = 10
"""Agents with passive capture. Each watches a host: of a hundred in one kernel, every one would be run for
what the others' hosts do."""
SETTLE_S: Final = 6
"""Agents come within seconds; the cycle should begin with all of them."""
MOST_CYCLE_S: Final = 480.0
PERIOD_S: Final = 500
"""Longer than a cycle here takes: the next one would fill both CPUs while tests on demand are timed. What a
cycle may spend stays what it is."""
SAY_EVERY_S: Final = 60.0
ONLINE_S: Final = 180.0
REST_S: Final = 15.0
PAIR_RUNS: Final = 5
LOOK_S: Final = 1.0

_TIME: Final = r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z INFO pathgrade.server.cycles "
_STARTED: Final = re.compile(_TIME + r"cycle started", re.MULTILINE)
_ENDED: Final = re.compile(_TIME + r"cycle ended .* skipped=(\d+)", re.MULTILINE)


class _Spent:
    """CPU time of all parts from now on."""

    def __init__(self, made: Fleet) -> None:
        self._made = made
        self._began_s = time.monotonic()
        self._before = self._look()

    def so_far(self) -> tuple[float, float, float]:
        """Seconds that passed, CPU of an agent (mean), CPU of the server."""
        now = self._look()
        used = {name: now[name] - before for name, before in self._before.items()}
        server_s = used.pop("server")
        return time.monotonic() - self._began_s, fmean(used.values()), server_s

    def _look(self) -> dict[str, float]:
        return {part.name: machine.cpu_s(part.pid) for part in self._made.parts}


def run(folder: Path, *, agents: int, passive: int, say: Say) -> Measured:
    """Run the bench; everything is ended and removed afterwards. Raises ``BenchError``."""
    with fleet(folder, agents) as made:
        say(f"starting a server and {agents} agents, {passive} of them with passive capture")
        made.start_server(_settings())
        made.start_agents(passive=passive, within_s=ONLINE_S)
        say("all are online; waiting for the cycle")
        _until(made, lambda: _STARTED.search(made.server_log) is not None, SETTLE_S + 30, "a cycle starts")
        spent = _Spent(made)
        _until(made, _cycle_end(made, say), MOST_CYCLE_S, "the cycle ends")
        wall_s, agent_cpu_s, server_cpu_s = spent.so_far()
        say(f"the cycle took {wall_s:.1f} s; now nothing for {REST_S:.0f} s")
        memory = {part.name: machine.memory(part.pid) for part in made.parts}
        skipped = int(_ENDED.findall(made.server_log)[0][1])
        results = _results(made)
        spent = _Spent(made)
        time.sleep(REST_S)
        rest_s, agent_rest_s, server_rest_s = spent.so_far()
        pair_s = _pairs(made, say)
        mesh_agents, told, mesh_s = _mesh(made, say)
        server = memory.pop("server")
        watching = [one.resident for one in list(memory.values())[:passive]]
        bare = [one.resident for one in list(memory.values())[passive:]]
        return Measured(
            agents=agents,
            passive=passive,
            results=len(results),
            reached=sum(rung != "none" for rung in results),
            skipped=skipped,
            wall_s=wall_s,
            agent_cpu_s=agent_cpu_s,
            agent_rest_share=agent_rest_s / rest_s,
            agent_rss_mb=max(watching or bare),
            agent_bare_rss_mb=max(bare, default=None),
            agent_own_mb=fmean(one.anonymous for one in memory.values()),
            server_cpu_s=server_cpu_s,
            server_rest_share=server_rest_s / rest_s,
            server_rss_mb=server.resident,
            pair_s=pair_s,
            mesh_agents=mesh_agents,
            mesh_pairs=told["pairs"],
            mesh_s=mesh_s,
            mesh_failed=sum(result["rung"] == "none" for result in told["results"]),
        )


def _cycle_end(made: Fleet, say: Say) -> Callable[[], bool]:
    """Look for the end of the cycle; say now and then how far it is."""
    due_s = time.monotonic() + SAY_EVERY_S

    def ended() -> bool:
        nonlocal due_s
        log = made.server_log
        if time.monotonic() > due_s:
            due_s += SAY_EVERY_S
            say(f"{log.count(' test ended ')} pairs tested")
        return _ENDED.search(log) is not None

    return ended


def _settings() -> dict[str, str]:
    given = {
        "CYCLE_S": PERIOD_S,
        "SETTLE_S": SETTLE_S,
        "BUDGET_CPU_BP": BUDGET_CPU_BP * CYCLE_S // PERIOD_S,
        "TESTS_AT_ONCE": TESTS_AT_ONCE * (os.cpu_count() or 1),
    }
    return {f"PATHGRADE_{name}": str(value) for name, value in given.items()}


def _results(made: Fleet) -> list[str]:
    """List the rungs of the directed results that have arrived, once all have or no more come."""
    rungs: list[str] = []
    for _ in range(20):
        report = made.ask("paths") or {"paths": []}
        came = [row["rung"] for row in report["paths"]]
        if len(came) == len(made.agents) * (len(made.agents) - 1):
            return came
        rungs = came
        time.sleep(0.5)
    return rungs


def _pairs(made: Fleet, say: Say) -> list[float]:
    """Time tests on demand of single pairs: as a person does, command and all."""
    names = list(made.agents)
    took = []
    for number in range(PAIR_RUNS):
        src, dst = names[number % len(names)], names[-1 - number % (len(names) - 1)]
        began_s = time.monotonic()
        told = msgspec.json.decode(made.command("mesh", "run", src, dst, "--json"))
        took.append(time.monotonic() - began_s)
        if any(result["rung"] == "none" for result in told["results"]):
            raise PartError(
                f"{src} did not reach {dst}: {told['results']}", remedy="look at the agents' logs"
            )
    say(f"one pair on demand: {min(took):.1f} to {max(took):.1f} s")
    return took


def _mesh(made: Fleet, say: Say) -> tuple[int, dict[str, Any], float]:
    """Time a mesh on demand, of fifty agents if there are so many: the others are ended first."""
    made.stop_agents(list(made.agents)[MESH_AGENTS:])
    began_s = time.monotonic()
    told = msgspec.json.decode(made.command("mesh", "run", "--all", "--json"))
    took_s = time.monotonic() - began_s
    say(f"a mesh of {len(made.agents)} on demand: {took_s:.1f} s")
    return len(made.agents), told, took_s


def _until(made: Fleet, ready: Callable[[], bool], within_s: float, what: str) -> None:
    deadline_s = time.monotonic() + within_s
    while not ready():
        made.check()
        if time.monotonic() > deadline_s:
            raise PartError(f"{what}: not within {within_s:.0f} s", remedy="try fewer: --agents 10")
        time.sleep(LOOK_S)


def _measure(agents: int) -> Callable[[bool, Path, Say], Report]:
    def measure(quick: bool, folder: Path, say: Say) -> Report:
        folder.chmod(0o711)  # agents give up root, and their data are below it
        count = QUICK_AGENTS if quick else agents
        measured = run(folder, agents=count, passive=min(PASSIVE, count), say=say)
        return Report(
            {mesh_table.COLUMN: mesh_table.cells(measured)},
            mesh_table.extrapolated(measured).splitlines(),
            mesh_table.more(measured),
        )

    return measure


def _needs() -> None:
    if not machine.BTF.exists():
        raise NeedsError(f"there is no {machine.BTF}", remedy="boot a kernel with CONFIG_DEBUG_INFO_BTF=y")


def of_agents(agents: int) -> Bench:
    """Make the bench for so many agents."""
    return Bench(
        name="mesh",
        words="a cycle of real agents: how long it takes, what it costs each, what that means for 1,000",
        description=(__doc__ or "").partition(": ")[2],
        figures=mesh_table.figures(agents),
        headings={mesh_table.COLUMN: "mesh"},
        judged=mesh_table.COLUMN,
        needs=_needs,
        measure=_measure(agents),
        resized=of_agents,
    )


BENCH: Final = of_agents(AGENTS)
