"""The loads: a storm of connections (C), and sessions whose truth is known (workload.py)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final, NamedTuple

from benches.net import inside, run
from benches.truth import End, Truth

STORM_SOURCE: Final = Path(__file__).parents[2] / "tests/kernel/apps/storm.c"
WORKLOAD: Final = Path(__file__).with_name("workload.py")
LIMIT_S: Final = 90


class Work(NamedTuple):
    """What a storm does: on each connection ``rounds`` requests of 100 bytes, each with a reply of 1,000."""

    connections: int
    rounds: int
    pairs: int  # of a server and a client process

    @property
    def exchanges(self) -> int:
        """What its throughput is counted in: requests, or connections where nothing is sent."""
        return self.connections * max(1, self.rounds)


class Storm(NamedTuple):
    """What a storm took."""

    per_s: float  # exchanges a second
    cpu_us: float  # of all its processes, user and system, for an exchange


def build_storm(folder: Path) -> Path:
    """Compile the storm; it is the one of the kernel tests. Raises ``CommandError``."""
    binary = folder / "storm"
    run(["cc", "-O2", "-o", str(binary), str(STORM_SOURCE)])
    return binary


def storm(binary: Path, namespace: str, work: Work) -> Storm:
    """Run a storm to its end. Raises ``CommandError``."""
    options = ["-n", work.connections, "-r", work.rounds, "-p", work.pairs]
    told = json.loads(run(inside(namespace, [binary, *options]), within_s=LIMIT_S))
    return Storm(work.exchanges / told["elapsed_s"], told["cpu_s"] * 1e6 / work.exchanges)


def workload(namespace: str, *, short: int, long: int, lasts_s: float) -> list[Truth]:
    """Run the sessions; returns the truth about both ends of each. Raises ``CommandError``."""
    command = inside(namespace, [sys.executable, WORKLOAD, short, long, lasts_s])
    return [
        Truth(End(*end), pid, sent, received)
        for end, pid, sent, received in json.loads(run(command, within_s=LIMIT_S))
    ]
