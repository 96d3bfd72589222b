"""READ FIRST: how soon a path that became slower is called so, and how often one is called that did not.

The product's own decision (``analytics/detect.py``) over simulated paths: a test every five minutes, each
one sample of noise as real round trips have it. The noise has heavy tails (Student's t, 3 degrees) and a
memory (AR(1), 0.7 from one ten seconds to the next), one sample in a hundred is a spike of 30 ms in the mean,
and the day has its own curve.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from analytics.baseline import Sample
from analytics.detect import history
from benches.bench import Bench, Report, Say, nothing_needed
from benches.figures import Cell, Figure, Target, number, percent

STEP_S: Final = 300
DAY: Final = 86_400 // STEP_S
CALM_DAYS: Final = 7
PATHS: Final = 60
QUICK_PATHS: Final = 6
BASE_US: Final = 40_000
MEMORY: Final = 0.7
SAMPLES_A_STEP: Final = STEP_S // 10
SEED: Final = 20261125
STEPS_MS: Final = (6, 9, 12, 25)
NEVER: Final = 10**6

COLUMN: Final = "pathgrade"


def noise_us(draw: random.Random, tests: int, start_s: int) -> list[int]:
    """Give the median round trip of each test, in us."""
    level, found = 0.0, []
    for n in range(tests):
        for _ in range(SAMPLES_A_STEP):
            level = MEMORY * level + 0.6 * _student(draw, 3)
        spike = draw.expovariate(1 / 30) if draw.random() < 0.01 else 0.0
        day = 1.5 * math.sin(2 * math.pi * (start_s + n * STEP_S) / 86_400)
        found.append(max(1, BASE_US + round(1_000 * (level + spike + day))))
    return found


def _student(draw: random.Random, freedom: int) -> float:
    chi_square = sum(draw.gauss(0, 1) ** 2 for _ in range(freedom))
    return draw.gauss(0, 1) / math.sqrt(chi_square / freedom)


def _samples(values_us: Sequence[int]) -> list[Sample]:
    return [Sample(n * STEP_S * 1_000_000, value) for n, value in enumerate(values_us)]


def false_alarms(draw: random.Random, paths: int) -> float:
    """Changes called per path and day where nothing changed; the first day makes the baseline."""
    called = 0
    for _ in range(paths):
        found = history(_samples(noise_us(draw, (1 + CALM_DAYS) * DAY, 0)))
        called += len(found.past) + (found.change is not None)
    return called / (paths * CALM_DAYS)


def delays(draw: random.Random, paths: int, added_ms: int) -> list[int]:
    """Tests from the step until it is called, for each path; ``NEVER`` within an hour."""
    found = []
    for _ in range(paths):
        values = noise_us(draw, DAY + DAY // 2 + 12, 0)
        before, after = values[: DAY + DAY // 2], values[DAY + DAY // 2 :]
        slower = [*before, *(value + 1_000 * added_ms for value in after)]
        found.append(next((n for n in range(1, 13) if _called(slower[: len(before) + n])), NEVER))
    return found


def _called(values_us: Sequence[int]) -> bool:
    return history(_samples(values_us)).change is not None


def _words(added_ms: int) -> str:
    return f"{added_ms} ms more"


FIGURES: Final = (
    Figure("false_alarms", "called for nothing, a path and day", number(4, ""), Target(0.025, timed=False)),
    *(
        figure
        for added_ms in STEPS_MS
        for figure in (
            Figure(f"median_{added_ms}", f"{_words(added_ms)}: tests until called, median", number(0, "")),
            Figure(f"within_{added_ms}", f"{_words(added_ms)}: called within three tests", percent),
        )
    ),
)


def measure(quick: bool, _folder: Path, say: Say) -> Report:
    """Simulate all of it."""
    draw, paths = random.Random(SEED), QUICK_PATHS if quick else PATHS
    say(f"{paths} paths for {CALM_DAYS} days on which nothing changes")
    cells: dict[str, Cell] = {"false_alarms": false_alarms(draw, paths)}
    for added_ms in STEPS_MS:
        say(f"{paths} paths that become {added_ms} ms slower")
        found = delays(draw, paths, added_ms)
        cells[f"median_{added_ms}"] = None if median(found) == NEVER else median(found)
        cells[f"within_{added_ms}"] = sum(tests <= 3 for tests in found) / paths
    return Report(
        {COLUMN: cells}, ["A change of less than 20 % or 5 ms is not called, however sure it is."], {}
    )


BENCH: Final = Bench(
    name="detect",
    words="how soon a slower path is called so, and how often for nothing",
    description=__doc__ or "",
    figures=FIGURES,
    headings={COLUMN: "pathgrade"},
    judged=COLUMN,
    needs=nothing_needed,
    measure=measure,
)
