"""The soak: a server and real agents, cycles as in the product, and what their memory does meanwhile.

Every agent is a process in a namespace of its own; a few watch their host by eBPF as well. Resident memory of
each process is looked at every ten seconds. After a warm-up (ten minutes of an hour, a sixth of a shorter
run) the medians of the first and the last fifth of what is left are compared: server, all agents together,
and the agent that grew most.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from benches.bench import Say
from benches.errors import PartError
from benches.mesh_fleet import Fleet, fleet

from faults.samples import Growth, Sample, growth, together

EVERY_S: Final = 10.0
SAY_EVERY_S: Final = 60.0
WARM_UP_S: Final = 600.0
WARM_UP_SHARE: Final = 1 / 6
PASSIVE_SHARE: Final = 0.1
"""Of the agents, so many watch their host. Each is run for what the whole kernel does: of fifty in one
kernel, all would pay for what the others' hosts do."""
ONLINE_S: Final = 300.0
TESTS_AT_ONCE: Final = 16
"""For each CPU, as ``benches.mesh``: both ends of a test run here."""
TARGET: Final = 0.02
COLUMNS: Final = {"first MB": 10, "last MB": 10, "most MB": 10, "MB an hour": 12, "growth": 9}
HEADING: Final = " " * 12 + "".join(f"{name:>{width}}" for name, width in COLUMNS.items())
PAGE_KB: Final = os.sysconf("SC_PAGE_SIZE") // 1024

_LEVEL: Final = re.compile(r"^\S+Z (WARNING|ERROR|CRITICAL) (\S+) (.{0,60})", re.MULTILINE)


class Soaked(NamedTuple):
    """What came of it."""

    agents: int
    minutes: float
    samples: Mapping[str, Sequence[Sample]]  # process -> its memory
    tests: int
    cycles: int
    rows: Mapping[str, int]  # kept in the store at the end, by table
    said: Mapping[str, int]  # warnings and errors of all logs, the beginning of each line

    @property
    def from_s(self) -> float:
        """Where the warm-up ended."""
        return min(WARM_UP_S, self.minutes * 60 * WARM_UP_SHARE)

    def grown(self) -> dict[str, Growth]:
        """The three that are judged; one without enough samples is left out."""
        of = {name: growth(taken, from_s=self.from_s) for name, taken in self.samples.items()}
        told = {name: one for name, one in of.items() if one is not None}
        server = told.pop("server", None)
        agents = [taken for name, taken in self.samples.items() if name != "server"]
        all_agents = growth(together(agents), from_s=self.from_s)
        found = {"server": server, "agents": all_agents}
        if told:
            worst = max(told, key=lambda name: told[name].share)
            found[worst] = told[worst]
        return {name: one for name, one in found.items() if one is not None}

    def missed(self) -> list[str]:
        """Name what grew by the target or more, or could not be judged."""
        grown = self.grown()
        lacking = [f"{name}: not measured" for name in ("server", "agents") if name not in grown]
        return lacking + [
            f"{name} grew by {one.share:.1%}" for name, one in grown.items() if one.share >= TARGET
        ]


def soak(folder: Path, *, agents: int, minutes: float, say: Say, keep: Callable[[Soaked], None]) -> Soaked:
    """Run it; everything is ended and removed afterwards. Raises ``BenchError``.

    ``keep`` is given what came of it so far, each minute.
    """
    folder.chmod(0o711)  # agents give up root, and their data are below it
    with fleet(folder, agents) as made:
        passive = max(1, round(agents * PASSIVE_SHARE))
        say(f"starting a server and {agents} agents, {passive} of them with passive capture")
        made.start_server({"PATHGRADE_TESTS_AT_ONCE": str(TESTS_AT_ONCE * (os.cpu_count() or 1))})
        made.start_agents(passive=passive, within_s=ONLINE_S)
        say(f"all are online; {minutes:.0f} minutes from now")
        samples = _watched(made, minutes * 60, say, lambda so_far: keep(_soaked(made, so_far)))
        return _soaked(made, samples)


def _soaked(made: Fleet, samples: Mapping[str, Sequence[Sample]]) -> Soaked:
    return Soaked(
        agents=len(made.agents),
        minutes=round(samples["server"][-1].at_s / 60, 1),
        samples=samples,
        tests=made.server_log.count(" test ended "),
        cycles=made.server_log.count(" cycle ended "),
        rows=_rows(made),
        said=_said(made),
    )


def _watched(
    made: Fleet, seconds: float, say: Say, keep: Callable[[Mapping[str, Sequence[Sample]]], None]
) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {part.name: [] for part in made.parts}
    began_s = say_s = time.monotonic()
    while (at_s := time.monotonic() - began_s) < seconds:
        made.check()
        for part in made.parts:
            samples[part.name].append(Sample(round(at_s, 1), rss_kb(part.pid)))
        if time.monotonic() >= say_s:
            say_s += SAY_EVERY_S
            say(_line(at_s, samples, made))
            keep(samples)
        time.sleep(max(0.0, EVERY_S - (time.monotonic() - began_s - at_s)))
    return samples


def _line(at_s: float, samples: Mapping[str, Sequence[Sample]], made: Fleet) -> str:
    now = {name: taken[-1].rss_kb for name, taken in samples.items()}
    server = now.pop("server")
    log = made.server_log
    return (
        f"{at_s / 60:5.1f} min  server {server / 1000:7.1f} MB  agents {sum(now.values()) / 1000:8.1f} MB"
        f"  greatest {max(now.values()) / 1000:6.1f} MB  tests {log.count(' test ended ')}"
        f"  cycles {log.count(' cycle ended ')}"
    )


def rss_kb(pid: int) -> int:
    """Resident memory of a live process (proc(5), statm). Raises ``PartError`` if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_KB
    except (OSError, IndexError) as error:
        raise PartError(f"process {pid} is gone", remedy="look at its log") from error


def _rows(made: Fleet) -> dict[str, int]:
    status = made.ask("status") or {}
    return {name: count for name, count in status.items() if isinstance(count, int)}


def _said(made: Fleet) -> dict[str, int]:
    """Count warnings and errors by how they begin; numbers are left out of that."""
    found = Counter[str]()
    for part in made.parts:
        whose = "server" if part.name == "server" else "agents"
        for level, logger, words in _LEVEL.findall(part.log.read_text(errors="replace")):
            found[f"{whose} {level} {logger} {re.sub(r'[0-9]+|=.*', '', words).strip()}"] += 1
    return dict(found.most_common(30))


def lines(soaked: Soaked) -> list[str]:
    """Lay it out for people."""
    told = [
        f"{soaked.agents} agents, {soaked.minutes:.0f} minutes, {soaked.cycles} cycles,"
        f" {soaked.tests} tests; judged after the first {soaked.from_s / 60:.1f} minutes",
        "",
        f"{HEADING}  target < {TARGET:.0%}",
    ]
    for name, one in soaked.grown().items():
        told.append(
            f"{name:12}{one.first_kb / 1000:10.1f}{one.last_kb / 1000:10.1f}{one.most_kb / 1000:10.1f}"
            f"{one.slope_kb_per_h / 1000:12.2f}{one.share:9.2%}  {'ok' if one.share < TARGET else 'MISSED'}"
        )
    told += ["", "warnings and errors in the logs:", *(f"  {n:6}  {what}" for what, n in soaked.said.items())]
    return told


def as_json(soaked: Soaked) -> dict[str, Any]:
    """Lay it out for programs."""
    return {
        **soaked._asdict(),
        "samples": {name: [list(one) for one in taken] for name, taken in soaked.samples.items()},
        "from_s": soaked.from_s,
        "growth": {name: {**one._asdict(), "share": one.share} for name, one in soaked.grown().items()},
        "missed": soaked.missed(),
    }
