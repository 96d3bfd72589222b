"""READ FIRST: how long it takes to rank every path of a thousand agents, beside pandas, polars and SQLite.

20 million readings (1,000 agents, a day thinned to 20 cycles) are sealed as the store seals them. Then
the product's own ranking (``analytics/ranking``), in a process of its own: all of it from the files
(latest, what is usual, letters, the worst hundred, pairs of sites); one more cycle of 999,000 readings
taken in; the questions of the pages. Letters are those of the full models (``analytics/sql``).

The peers are asked the same question over fewer rows and for one profile, ``generic``, as is the product
there: every letter is compared. Memory is the greatest of the process, Python and engine together.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

from analytics.rules.load import load_rules
from benches import rank_facts
from benches.bench import Bench, Report, Say
from benches.errors import NeedsError
from benches.figures import Cell, Figure, Target, number
from benches.net import run

COLUMN: Final = "pathgrade"
PEERS: Final = ("pandas", "polars", "sqlite")
SHOWN: Final = "generic"
PEERS_PROFILE: Final = "generic"
PEERS_CYCLES: Final = 3
LIMIT_S: Final = 600
QUESTIONS: Final = {
    "worst_ms": "the worst hundred",
    "sites_ms": "pairs of sites",
    "agent_ms": "one agent's paths",
    "matrix_ms": "the whole matrix",
}


class Size(NamedTuple):
    """How much is ranked."""

    agents: int
    cycles: int


WHOLE, QUICK = Size(rank_facts.AGENTS, rank_facts.CYCLES), Size(60, 4)

FIGURES: Final = (
    Figure("rank_s", f"rank 20 M readings ({SHOWN})", number(2, "s"), Target(4)),
    Figure("rank_mb", "  memory", number(0, "MB"), Target(2_000)),
    Figure("refresh_s", f"take in 999,000 paths ({SHOWN})", number(2, "s"), Target(1)),
    Figure("rank_all_s", "rank 20 M readings, all profiles", number(2, "s")),
    Figure("refresh_all_s", "take in 999,000 paths, all profiles", number(2, "s")),
    *(Figure(key, f"ask: {words}", number(1, "ms"), Target(30)) for key, words in QUESTIONS.items()),
    Figure("like_s", f"rank {PEERS_CYCLES} M readings ({PEERS_PROFILE})", number(2, "s")),
    Figure("like_mb", "  memory", number(0, "MB")),
    Figure("like_times", "  times as long as pathgrade", number(1, "x")),
    Figure("different", "  letters that differ from pathgrade's", number(0, ""), Target(0, timed=False)),
)


def needs() -> None:
    """The peers must be there."""
    if missing := [name for name in ("pandas", "polars") if find_spec(name) is None]:
        raise NeedsError(f"{', '.join(missing)}: not installed", remedy="scripts/setup --bench")


def measure(quick: bool, folder: Path, say: Say) -> Report:
    """Make the readings, then one process after the other."""
    size = QUICK if quick else WHOLE
    say(f"Sealing {size.cycles} cycles of {size.agents * (size.agents - 1):,} readings ...")
    files = make(folder, size)
    say(f"{sum(file.stat().st_size for file in files) / 1e6:,.0f} MB of Parquet. Ranking all of it ...")
    one = product([SHOWN], size, files, folder)
    every = product(list(load_rules().profiles), size, files, folder)
    say("The same question to pandas, polars and SQLite ...")
    some = files[-PEERS_CYCLES:]
    like = product([PEERS_PROFILE], size, some, folder)
    cells: dict[str, dict[str, Cell]] = {COLUMN: _own(one, every, like)}
    for tool in PEERS:
        told = _json(["benches.rank_peers", tool, size.agents, *some])
        cells[tool] = _peer(told, like)
        cells[COLUMN]["different"] = int(cells[COLUMN]["different"] or 0) + int(cells[tool]["different"])  # type: ignore[arg-type]  # counts
    readings = len(files) * size.agents * (size.agents - 1)
    details = [
        f"{readings:,} readings in {len(files)} files of {size.agents:,} agents; {rank_facts.SITES} sites.",
        "SQLite cannot read Parquet: filling it is not counted.",
        "Taking in lays out the matrix too, and counts by pair of sites; the pages read those.",
    ]
    return Report(cells, details, {"one": _short(one), "all": _short(every), "like": _short(like)})


def make(folder: Path, size: Size) -> list[Path]:
    """Seal the readings of all cycles, two processes at once."""
    starts = rank_facts.cycles(size.cycles)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(rank_facts.write, folder, size.agents, segment, cycle)
            for segment, cycle in enumerate(starts, start=1)
        ]
        return [job.result() for job in jobs]


def product(profiles: Sequence[str], size: Size, files: Sequence[Path], scratch: Path) -> dict[str, Any]:
    """One run of the product."""
    return _json(["benches.rank_product", ",".join(profiles), size.agents, scratch, *files])


def _json(arguments: Sequence[object]) -> dict[str, Any]:
    told = run([sys.executable, "-m", *map(str, arguments)], within_s=LIMIT_S)
    return json.loads(told)  # type: ignore[no-any-return]  # as the program above writes it


def _own(one: dict[str, Any], every: dict[str, Any], like: dict[str, Any]) -> dict[str, Cell]:
    return {
        **{key: one[key] for key in ("rank_s", "rank_mb", "refresh_s", *QUESTIONS)},
        "rank_all_s": every["rank_s"],
        "refresh_all_s": every["refresh_s"],
        "like_s": like["rank_s"],
        "like_mb": like["rank_mb"],
        "like_times": 1.0,
        "different": 0,
    }


def _peer(told: dict[str, Any], like: dict[str, Any]) -> dict[str, Cell]:
    return {
        "like_s": told["seconds"],
        "like_mb": told["peak_mb"],
        "like_times": told["seconds"] / like["rank_s"],
        "different": sum(a != b for a, b in zip(told["letters"], like["letters"], strict=True)),
    }


def _short(told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key != "letters"}


BENCH: Final = Bench(
    name="rank",
    words="ranking all paths of a thousand agents, beside pandas, polars and SQLite",
    description=__doc__ or "",
    figures=FIGURES,
    headings={COLUMN: "pathgrade", "pandas": "pandas", "polars": "polars", "sqlite": "SQLite"},
    judged=COLUMN,
    needs=needs,
    measure=measure,
)
