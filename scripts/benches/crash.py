"""READ FIRST: whether anything is lost or doubled when the server is killed, or the power goes.

Killed: a process that takes batches, seals, rolls up and compacts all at once is killed with SIGKILL at a
moment nobody chose, twenty times on the same folder. The power: the same work is recorded (``powercut.py``),
and the disk is laid out as it would be had the power gone at a chosen moment: while spooling, sealing,
rolling up (three levels) and compacting. The agents are of two tenants, and have the same names. Each time
the store is opened, everything that was acknowledged is sent again, every row is counted in every table and
rollup, and no file may have rows of another tenant than its folder's.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import Final

from analytics.store.store import Store
from benches.bench import Bench, Report, Say, nothing_needed
from benches.crash_load import AT_US, HOUR_US, SENDERS, Found, Key, look, send
from benches.figures import Cell, Figure, Target, number
from benches.powercut import Cut, Disk

KILLS: Final = 20
CUTS: Final = 6
QUICK_KILLS: Final = 2
SEED: Final = 20261125
ROOT: Final = Path(__file__).resolve().parents[2]
COLUMN: Final = "pathgrade"
PHASES: Final = (
    ("append", "spool/*"),
    ("seal", "parquet/*"),
    ("upkeep", "rollup/*/readings_5m/*"),
    ("upkeep", "rollup/*/readings_1h/*"),
    ("upkeep", "rollup/*/readings_1d/*"),
    ("upkeep", "parquet/*"),  # a day's files become one
)
"""Where the power goes: what was going on, and what was about to be synced."""
WHOLE: Final = number(0, "")
NOTHING: Final = Found(0, 0, 0, 0, 0)


def killed(folder: Path, kills: int, say: Say) -> tuple[Found, int]:
    """Kill a writer again and again; returns the worst of what was found, and the acknowledged batches."""
    chance, acknowledged = random.Random(SEED), set[Key]()
    found, start_us = NOTHING, AT_US
    for life in range(kills):
        told = _killed_once(folder, life * 1_000_000, start_us, after=chance.randrange(50, 800))
        again = told | set(chance.sample(sorted(acknowledged), min(100, len(acknowledged))))
        acknowledged |= told
        start_us += 48 * HOUR_US
        one = look(folder, acknowledged, again, start_us)
        say(f"kill {life + 1} of {kills}: {len(acknowledged)} batches acknowledged so far, {one}")
        found = Found(*map(sum, zip(found, one, strict=True)))
    return found, len(acknowledged)


def _killed_once(folder: Path, first: int, start_us: int, *, after: int) -> set[Key]:
    """Run a writer, kill it after so many acknowledgements, and return all that it was told."""
    command = [sys.executable, "-m", "benches.crash_load", str(folder), str(first), str(start_us)]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **paths}
    ) as writer:
        assert writer.stdout is not None
        told = [line for line, _ in zip(writer.stdout, range(after), strict=False)]
        writer.send_signal(signal.SIGKILL)
        told += [line for line in writer.stdout if line.endswith("\n")]
    return {(sender, int(batch)) for sender, batch in map(str.split, told)}


def recorded(folder: Path, rounds: int) -> tuple[list[Cut], list[Key], int]:
    """Take, seal and keep up for three days; returns every moment, what was acknowledged, and the time."""
    acknowledged: list[Key] = []
    now = [AT_US]
    folder.mkdir()
    disk = Disk(folder, lambda: len(acknowledged))
    with disk.recording(), closing(Store.open(folder, clock_us=lambda: now[0])) as store:
        numbers = count()
        for day in range(3):
            for _ in range(rounds):
                disk.during = "append"
                asyncio.run(_sent(store, next(numbers), acknowledged))
                disk.during = "seal"
                store.seal()
                now[0] += HOUR_US
            now[0] = AT_US + (day + 1) * 24 * HOUR_US
            disk.during = "upkeep"
            store.upkeep()
            disk.during = "append"
            asyncio.run(_sent(store, next(numbers), acknowledged))
    return disk.cuts, acknowledged, now[0]


async def _sent(store: Store, batch: int, acknowledged: list[Key]) -> None:
    for sender in SENDERS[:2]:
        await send(store, (sender, batch))
        acknowledged.append((sender, batch))


def cut_found(cut: Cut, acknowledged: Sequence[Key], now_us: int) -> Found:
    """Lay out the disk as the cut left it, and look."""
    with tempfile.TemporaryDirectory(prefix="pgb-cut-") as place:
        folder = Path(place) / "data"
        cut.restore(folder)
        promised = acknowledged[: cut.acknowledged]
        return look(folder, promised, promised, now_us + 48 * HOUR_US)


def chosen(cuts: Sequence[Cut]) -> list[Cut]:
    """One moment of each phase, in the middle of it."""
    phases = [
        [cut for cut in cuts if cut.during == during and fnmatchcase(cut.doing, doing)]
        for during, doing in PHASES
    ]
    return [of[len(of) // 2] for of in phases if of]


def power_cut(folder: Path, say: Say) -> tuple[Found, int]:
    """Cut the power in every phase."""
    cuts, acknowledged, now_us = recorded(folder, 3)
    found, picked = NOTHING, chosen(cuts)
    for at, cut in enumerate(picked, start=1):
        one = cut_found(cut, acknowledged, now_us)
        say(f"cut {at} of {len(picked)}, before {cut.doing} was synced: {one}")
        found = Found(*map(sum, zip(found, one, strict=True)))
    return found, len(picked)


def measure(quick: bool, folder: Path, say: Say) -> Report:
    """Kill and cut."""
    kills = QUICK_KILLS if quick else KILLS
    by_kill, batches = killed(folder / "killed", kills, say)
    by_cut, cuts = power_cut(folder / "cut", say)
    cells: dict[str, dict[str, Cell]] = {
        COLUMN: {
            "kills": float(kills),
            "batches": float(batches),
            "kill_lost": float(by_kill.lost),
            "kill_doubled": float(by_kill.duplicated),
            "kill_rollups": float(by_kill.not_rolled_up + by_kill.failures),
            "kill_strayed": float(by_kill.strayed),
            "cuts": float(cuts),
            "cut_lost": float(by_cut.lost),
            "cut_doubled": float(by_cut.duplicated),
            "cut_rollups": float(by_cut.not_rolled_up + by_cut.failures),
            "cut_strayed": float(by_cut.strayed),
        }
    }
    return Report(cells, [], {})


_NONE: Final = Target(0, timed=False)
BENCH: Final = Bench(
    name="crash",
    words="whether a kill or a power cut loses or doubles anything (four minutes)",
    description=__doc__ or "",
    figures=(
        Figure("kills", "killed with SIGKILL", WHOLE),
        Figure("batches", "batches acknowledged before", WHOLE),
        Figure("kill_lost", "acknowledged rows lost", WHOLE, _NONE),
        Figure("kill_doubled", "rows there twice", WHOLE, _NONE),
        Figure("kill_rollups", "readings that a rollup lacks or has twice", WHOLE, _NONE),
        Figure("kill_strayed", "files with rows of another tenant", WHOLE, _NONE),
        Figure("cuts", "power cuts, one in each phase", WHOLE, Target(CUTS, at_least=True, timed=False)),
        Figure("cut_lost", "acknowledged rows lost", WHOLE, _NONE),
        Figure("cut_doubled", "rows there twice", WHOLE, _NONE),
        Figure("cut_rollups", "readings that a rollup lacks or has twice", WHOLE, _NONE),
        Figure("cut_strayed", "files with rows of another tenant", WHOLE, _NONE),
    ),
    headings={COLUMN: COLUMN},
    judged=COLUMN,
    needs=nothing_needed,
    measure=measure,
)
