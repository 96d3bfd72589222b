"""What is measured of a watcher: what it finds, what it costs, what it takes from others."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, NamedTuple

from benches.loads import Storm, Work, storm, workload
from benches.machine import Memory, Runs, bpf_statistics, cpu_s, memory, programs
from benches.net import namespace
from benches.protocol import Told
from benches.truth import Shares, shares, wrong
from benches.watching import watching

MOST_SESSIONS: Final = 100_000
SETTLE_S: Final = 1.5
"""Between the end of a load and that of the watching: those that poll once a second come by once more."""
REST_S: Final = 2.0
WRONG_SAID: Final = 5


class Rig(NamedTuple):
    """What the measurements need."""

    storm: Path  # compiled
    folder: Path  # for compiled programs and outboxes


class Accuracy(NamedTuple):
    """What a watcher found."""

    shares: Shares
    wrong: list[str]  # some of those it did not tell rightly


class Costs(NamedTuple):
    """What a watcher cost in a storm; None and empty where it has no process that stays, or no programs."""

    connections: int
    told: Told
    at_rest: Memory | None
    afterwards: Memory | None
    rest_cpu_share: float | None  # of one CPU, with nothing to see
    programs: dict[str, Runs]  # by hook


class Watched(NamedTuple):
    """A storm with a watcher beside it."""

    storm: Storm
    load_s: float | None  # of the watcher
    cpu_us: float  # of the watcher, for an exchange
    lost: int | None  # closes that it knows it did not tell


class Pair(NamedTuple):
    """Two storms, one after the other."""

    without: Storm
    with_it: Watched

    @property
    def throughputs(self) -> tuple[float, float]:
        """Exchanges a second without and with the watcher."""
        return self.without.per_s, self.with_it.storm.per_s

    @property
    def cpu_throughputs(self) -> tuple[float, float]:
        """Exchanges for a second of CPU time, without and with the watcher, its own time counted in.

        What throughput comes to where all CPUs are busy with this; whatever else runs does not disturb it.
        """
        return 1e6 / self.without.cpu_us, 1e6 / (self.with_it.storm.cpu_us + self.with_it.cpu_us)


def try_out(rig: Rig, kind: str) -> str:
    """Start a watcher once; returns why it does not run here, or nothing. pathgrade compiles now."""
    with namespace() as name, watching(kind, name, rig.folder) as watcher:
        if not watcher.ready.refusal:
            watcher.end()
        return watcher.ready.refusal


def accuracy(rig: Rig, kind: str, *, short: int, long: int, lasts_s: float) -> Accuracy:
    """Compare what a watcher tells of sessions with the truth about them."""
    with namespace() as name, watching(kind, name, rig.folder, sessions=MOST_SESSIONS) as watcher:
        truths = workload(name, short=short, long=long, lasts_s=lasts_s)
        time.sleep(SETTLE_S)
        seen = watcher.end().sessions
    return Accuracy(shares(truths, seen), wrong(truths, seen, most=WRONG_SAID))


def costs(rig: Rig, kind: str, work: Work) -> Costs:
    """Watch one large storm. The kernel times the programs meanwhile, so its throughput means nothing."""
    with bpf_statistics(), namespace() as name, watching(kind, name, rig.folder) as watcher:
        pid = watcher.ready.pid
        rest_share = _cpu_share(pid, REST_S) if pid else None
        at_rest, before = _look(pid)
        storm(rig.storm, name, work)
        time.sleep(SETTLE_S)
        afterwards, after = _look(pid)
        told = watcher.end()
    return Costs(work.connections, told, at_rest, afterwards, rest_share, _between(before, after))


def pair(rig: Rig, kind: str, work: Work, number: int) -> Pair:
    """Run a storm without and one with the watcher; odd pairs the other way round, as a machine drifts."""
    if number % 2:
        with_it = _watched(rig, kind, work)
        return Pair(_alone(rig, work), with_it)
    return Pair(_alone(rig, work), _watched(rig, kind, work))


def _alone(rig: Rig, work: Work) -> Storm:
    with namespace() as name:
        return storm(rig.storm, name, work)


def _watched(rig: Rig, kind: str, work: Work) -> Watched:
    with namespace() as name, watching(kind, name, rig.folder) as watcher:
        done = storm(rig.storm, name, work)
        told = watcher.end()
    return Watched(done, watcher.ready.load_s, told.cpu_s * 1e6 / work.exchanges, told.lost)


def _cpu_share(pid: int, for_s: float) -> float:
    before = cpu_s(pid)
    time.sleep(for_s)
    return (cpu_s(pid) - before) / for_s


def _look(pid: int) -> tuple[Memory | None, dict[str, Runs]]:
    return (memory(pid), programs(pid)) if pid else (None, {})


def _between(before: dict[str, Runs], after: dict[str, Runs]) -> dict[str, Runs]:
    return {hook: _difference(before[hook], runs) for hook, runs in after.items()}


def _difference(before: Runs, after: Runs) -> Runs:
    return Runs(*(late - early for early, late in zip(before, after, strict=True)))
