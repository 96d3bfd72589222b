"""Tests on demand: what was asked for, how far it is, what came of it. Nothing here sends or waits."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from analytics.measurement import Rung
from analytics.wire import ProbePlan, TestEnded
from server.api.doors import MeshResult, MeshRun
from server.errors import DemandError
from server.schedule import Pair

MOST_KEPT: Final = 16
"""Runs that can still be asked after; of a thousand agents one has a million results."""
MOST_PAIRS: Final = 5_000
"""Of one run: a mesh of a hundred agents. More is what cycles are for."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One thing that was asked for."""

    id: str
    plan: ProbePlan
    started_us: int
    waiting: set[Pair]
    ended_us: int | None = None
    results: list[MeshResult] = field(default_factory=list)

    def told(self, *, since: int = 0) -> MeshRun:
        """Say how far it is, with the results from number ``since`` on."""
        return MeshRun(
            id=self.id,
            pairs=len(self.waiting) + len(self.results) // 2,
            pairs_ended=len(self.results) // 2,
            started_us=self.started_us,
            ended_us=self.ended_us,
            results=self.results[since:],
        )


class Demand:
    """The runs, the newest last."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._of_pair: dict[Pair, Run] = {}

    def open(self, pairs: Iterable[Pair], plan: ProbePlan, at_us: int) -> Run:
        """Take in what was asked for. Raises ``DemandError`` if it is asked for already, or too much."""
        wanted = set(pairs)
        require_few(wanted)
        if running := wanted & self._of_pair.keys():
            raise DemandError(
                f"{' and '.join(min(running))} are being tested on demand already",
                remedy="wait for that run to end: pathgrade mesh run shows it",
            )
        run = Run(id=secrets.token_hex(8), plan=plan, started_us=at_us, waiting=wanted)
        self._runs[run.id] = run
        self._of_pair |= dict.fromkeys(wanted, run)
        while len(self._runs) > MOST_KEPT:
            self._runs.popitem(last=False)
        return run

    def get(self, id_: str) -> Run | None:
        """Find a run."""
        return self._runs.get(id_)

    def of(self, pair: Pair) -> Run | None:
        """Find the run that waits for a pair."""
        return self._of_pair.get(pair)

    def end(self, pair: Pair, ends: Mapping[str, TestEnded], at_us: int, *, why: str = "") -> None:
        """Take the end of a pair's test in; ``why`` is why it has none."""
        run = self._of_pair.pop(pair)
        run.waiting.discard(pair)
        run.results += [_result(*way, ends, why) for way in (pair, pair[::-1])]
        if not run.waiting:
            run.ended_us = at_us

    def leave(self, agents: Set[str], at_us: int, why: str) -> None:
        """End every pair that has not been tested and has an end among these agents."""
        for pair in [pair for pair in self._of_pair if not agents.isdisjoint(pair)]:
            self.end(pair, {}, at_us, why=why)


def require_few(pairs: Set[Pair]) -> None:
    """Raise ``DemandError`` for more pairs than one run may have."""
    if len(pairs) > MOST_PAIRS:
        raise DemandError(
            f"{len(pairs)} pairs at once; at most {MOST_PAIRS}",
            remedy="wait for the cycle, or name the pairs that are of interest",
        )


def _result(src: str, dst: str, ends: Mapping[str, TestEnded], why: str) -> MeshResult:
    ended = ends.get(src)
    if ended is None:
        return MeshResult(src=src, dst=dst, rung=Rung.NONE, error=why)
    return MeshResult(
        src=src,
        dst=dst,
        rung=ended.rung,
        rtt_p50_us=ended.rtt_p50_us,
        loss_bp=ended.loss_bp,
        error=ended.error or why,
    )
