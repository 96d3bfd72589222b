"""One run of the product's ranking, in a process of its own so that its memory is its own; prints JSON.

``python -m benches.rank_product PROFILES AGENTS SCRATCH FILE ...``
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

from analytics.ranking.fleet import Fleet
from analytics.ranking.ranking import Ranking
from analytics.rules.load import load_rules
from benches import rank_facts

REPEATED: Final = 7


def took_s(do: Callable[[], Any]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def peak_mb() -> float:
    """Greatest resident memory of this process so far, in MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def run(profiles: list[str], agents: int, files: list[Path], scratch: Path) -> dict[str, Any]:
    """Rank all but the last file's cycle, then take that one in, then ask."""
    fleet, at_us = Fleet.of(rank_facts.members(agents)), rank_facts.AT_US
    first, shown = fleet.agents[len(fleet.agents) // 2], profiles[0]
    ranking = Ranking(fleet, load_rules(), tenant=rank_facts.TENANT, profiles=profiles, scratch=scratch)

    def rank() -> None:
        ranking.rebuild(files, at_us=at_us)
        ranking.worst(shown)
        ranking.sites(shown)

    found: dict[str, Any] = {"rank_s": took_s(rank), "rank_mb": peak_mb()}
    found["letters"] = ranking.matrix(shown).letters.decode()
    before = Ranking(fleet, load_rules(), tenant=rank_facts.TENANT, profiles=profiles, scratch=scratch)
    before.rebuild(files[-2:-1] or files, at_us=at_us)
    found["refresh_s"] = took_s(lambda: before.refresh(files[-1:], at_us=at_us))
    if len(files) > 1:
        assert before.matrix(shown).letters.decode() == found["letters"]
    asked: dict[str, Callable[[], Any]] = {
        "worst_ms": lambda: ranking.worst(shown),
        "sites_ms": lambda: ranking.sites(shown),
        "agent_ms": lambda: ranking.of_agent(first, shown),
        "matrix_ms": lambda: ranking.matrix(shown),
    }
    for name, ask in asked.items():
        found[name] = 1000 * median(took_s(ask) for _ in range(REPEATED))
    return {**found, "peak_mb": peak_mb()}


if __name__ == "__main__":
    _, told_profiles, told_agents, told_scratch, *told_files = sys.argv
    print(
        json.dumps(
            run(told_profiles.split(","), int(told_agents), list(map(Path, told_files)), Path(told_scratch))
        )
    )
