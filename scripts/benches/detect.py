"""READ FIRST: how soon a path that got worse is called so, and how often one is that did not.

The product's own decisions over simulated paths: pairs that are watched (``watch_sim.py``: a light test every
30 s, deeper ones where it is odd, a test in full every five minutes), and pairs that are not, which have the
test in full alone. Noise as real paths have it (``noise.py``). Beside them, on the same noise, what the
textbook's charts and a fixed line make of a light test every 30 s. A bound of 95 % stands beside each rate.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from analytics.baseline import Baseline, Sample
from analytics.detect import history
from analytics.measurement import Letter
from benches.alarms import CHARTS, Chart, calls
from benches.bench import Bench, Report, Say, nothing_needed
from benches.figures import Cell, Figure, Target, number
from benches.noise import MEMORY, Level, student
from benches.watch_sim import (
    BASE_MS,
    CYCLE_S,
    INTERVAL_S,
    UPLOAD_S,
    Fault,
    Story,
    calm,
    letters,
    rules,
    story,
    usual,
)

STEP_S: Final = 300
DAY: Final = 86_400 // STEP_S
CALM_DAYS: Final = 7
PATHS: Final = 60
QUICK_PATHS: Final = 6
BASE_US: Final = 40_000
SAMPLES_A_STEP: Final = STEP_S // 10
SEED: Final = 20261125
NEVER: Final = 10**6


def noise_us(draw: random.Random, tests: int, start_s: int) -> list[int]:
    """Give the median round trip of each test, in us."""
    level, found = 0.0, []
    for n in range(tests):
        for _ in range(SAMPLES_A_STEP):
            level = MEMORY * level + 0.6 * student(draw, 3)
        spike = draw.expovariate(1 / 30) if draw.random() < 0.01 else 0.0
        day = 1.5 * math.sin(2 * math.pi * (start_s + n * STEP_S) / 86_400)
        found.append(max(1, BASE_US + round(1_000 * (level + spike + day))))
    return found


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


TAILS: Final = 0.95
WATCHED, CYCLE = "watched", "cycle"
FAULTS: Final = {
    "large": (Fault(0, added_ms=70), Letter.C),
    "letter": (Fault(0, added_ms=15), Letter.B),
    "loss2": (Fault(0, loss=0.02), Letter.B),
    "loss5": (Fault(0, loss=0.05), Letter.C),
}
WARM_S: Final = 900.0
LOOKED_S: Final = 900.0
STORIES, QUICK_STORIES = 150, 20
CALM_PATHS, QUICK_CALM_PATHS = 125, 4
LETTER_HOURS, QUICK_LETTER_HOURS = 96, 2


def bound(events: int, days: float) -> float:
    """The rate that is exceeded with a probability of 5 % at most, given so many events (Poisson, exact)."""
    low, high = 0.0, events + 10 * math.sqrt(events + 1) + 10
    for _ in range(60):
        rate = (low + high) / 2
        at_most = sum(math.exp(n * math.log(rate) - rate - math.lgamma(n + 1)) for n in range(events + 1))
        low, high = (rate, high) if at_most > 1 - TAILS else (low, rate)
    return high / days


def tail(values: Sequence[float | None]) -> float | None:
    """The 95th percentile; None where it is not within the time."""
    ordered = sorted(math.inf if value is None else value for value in values)
    found = ordered[math.ceil(TAILS * len(ordered)) - 1]
    return None if math.isinf(found) else found


def middle(values: Sequence[float | None]) -> float | None:
    """The median, as ``tail``."""
    found = median(math.inf if value is None else value for value in values)
    return None if math.isinf(found) else found


def stories(draw: random.Random, name: str, count: int) -> list[Story]:
    """Let a fault begin at any moment of the cycle, on many paths."""
    fault, truth = FAULTS[name]
    known = rules()
    found = []
    for _ in range(count):
        from_s = WARM_S + draw.uniform(0, CYCLE_S)
        found.append(story(draw, fault._replace(from_s=from_s), from_s + LOOKED_S, truth, known))
    return found


def chart_delay_s(draw: random.Random, chart: Callable[[Baseline], Chart], added_ms: float) -> float | None:
    """How long a chart takes to call a step, at a light test every 30 s that begins at any moment of it."""
    look, level, late_s = chart(usual(draw)), Level(draw), draw.uniform(0, INTERVAL_S)
    for n in range(int(LOOKED_S / INTERVAL_S)):
        at_s = late_s + n * INTERVAL_S
        if look(round(1_000 * (BASE_MS + level.at(at_s) + added_ms))):
            return at_s + UPLOAD_S
    return None


def _watched(draw: random.Random, quick: bool, say: Say) -> dict[str, Cell]:
    count = QUICK_STORIES if quick else STORIES
    cells: dict[str, Cell] = {}
    for name in FAULTS:
        say(f"{count} watched paths: {name}")
        found = stories(draw, name, count)
        fields = ("lossy",) if name.startswith("loss") else ("left", "settled", "slower")
        for field in fields:
            times_s = [getattr(one, field) for one in found]
            cells[f"{name}_{field}"], cells[f"{name}_{field}_95"] = middle(times_s), tail(times_s)
    hours = QUICK_LETTER_HOURS if quick else LETTER_HOURS
    say(f"{hours} h of letters on watched paths on which nothing changes")
    moved = sum(letters(draw, rules(), 4) for _ in range(max(1, hours // 4)))
    cells["letters"], cells["letters_bound"] = moved / (hours / 24), bound(moved, hours / 24)
    return cells


def _calm(draw: random.Random, quick: bool, say: Say) -> dict[str, dict[str, Cell]]:
    days = QUICK_CALM_PATHS if quick else CALM_PATHS
    say(f"{days} days of watched paths on which nothing changes")
    slower = lossy = 0
    called = dict.fromkeys(CHARTS, 0)
    for _ in range(days):
        found = calm(draw)
        slower += found.slower
        lossy += found.lossy
        light = _every(found.samples)
        for name, chart in CHARTS.items():
            called[name] += calls(chart(found.normal), light)
    cells: dict[str, dict[str, Cell]] = {
        name: {"false_alarms": count / days, "false_alarms_bound": bound(count, days)}
        for name, count in {WATCHED: slower, **called}.items()
    }
    cells[WATCHED] |= {"false_loss": lossy / (2 * days), "false_loss_bound": bound(lossy, 2 * days)}
    return cells


def _every(samples: Sequence[Sample]) -> list[int]:
    """The tests that a fixed pace would have made."""
    found, next_us = [], 0.0
    for sample in samples:
        if sample.at_us >= next_us:
            found.append(sample.rtt_us)
            next_us = sample.at_us + 0.9 * INTERVAL_S * 1e6
    return found


def _charts(draw: random.Random, quick: bool) -> dict[str, dict[str, Cell]]:
    count = QUICK_STORIES if quick else STORIES
    cells: dict[str, dict[str, Cell]] = {}
    for name, chart in CHARTS.items():
        cells[name] = {}
        for fault in ("large", "letter"):
            times_s = [chart_delay_s(draw, chart, FAULTS[fault][0].added_ms) for _ in range(count)]
            cells[name] |= {f"{fault}_slower": middle(times_s), f"{fault}_slower_95": tail(times_s)}
    return cells


def _by_cycle(draw: random.Random, quick: bool, say: Say) -> dict[str, Cell]:
    paths = QUICK_PATHS if quick else PATHS
    say(f"{paths} paths that are not watched, for {CALM_DAYS} days on which nothing changes")
    rate = false_alarms(draw, paths)
    days = paths * CALM_DAYS
    cells: dict[str, Cell] = {"false_alarms": rate, "false_alarms_bound": bound(round(rate * days), days)}
    for name in ("large", "letter"):
        found = delays(draw, paths, round(FAULTS[name][0].added_ms))
        times_s = [None if tests == NEVER else (tests - 0.5) * STEP_S for tests in found]
        cells |= {f"{name}_slower": middle(times_s), f"{name}_slower_95": tail(times_s)}
    return cells


def _times(key: str, words: str, within_s: float | None = None) -> tuple[Figure, Figure]:
    target = None if within_s is None else Target(within_s, timed=False)
    seconds = number(0, "s")
    return (
        Figure(key, f"{words}: median", seconds),
        Figure(f"{key}_95", f"{words}: 95 of 100 within", seconds, target),
    )


FIGURES: Final = (
    Figure(
        "false_alarms", "called slower for nothing, a path and day", number(4, ""), Target(0.025, timed=False)
    ),
    Figure("false_alarms_bound", "  at most, with 95 %", number(3, "")),
    Figure(
        "false_loss", "called lossy for nothing, a path and day", number(4, ""), Target(0.05, timed=False)
    ),
    Figure("false_loss_bound", "  at most, with 95 %", number(3, "")),
    Figure("letters", "letter changes for nothing, a path and day", number(2, ""), Target(1, timed=False)),
    Figure("letters_bound", "  at most, with 95 %", number(2, "")),
    *_times("large_left", "70 ms more, A to C: the letter changes", 60),
    *_times("large_settled", "70 ms more, A to C: it is C"),
    *_times("large_slower", "70 ms more: called slower"),
    *_times("letter_left", "15 ms more, A to B: the letter changes", 180),
    *_times("letter_slower", "15 ms more: called slower", 180),
    *_times("loss2_lossy", "2 % lost: called lossy", 300),
    *_times("loss5_lossy", "5 % lost: called lossy", 300),
)


def measure(quick: bool, _folder: Path, say: Say) -> Report:
    """Simulate all of it."""
    draw = random.Random(SEED)
    cells = _calm(draw, quick, say)
    cells[WATCHED] |= _watched(draw, quick, say)
    for name, more in _charts(draw, quick).items():
        cells[name] |= more
    cells[CYCLE] = _by_cycle(draw, quick, say)
    details = [
        "A change of less than 20 % or 5 ms is not called slower, however sure it is.",
        "Times are from the change to the report, uploads and waits for busy sites included.",
    ]
    return Report(cells, details, {})


BENCH: Final = Bench(
    name="detect",
    words="how soon a path that got worse is called so, and how often for nothing",
    description=__doc__ or "",
    figures=FIGURES,
    headings={
        WATCHED: "watched",
        CYCLE: "each cycle",
        "cusum": "CUSUM .5/5",
        "ewma": "EWMA .2/3",
        "fixed": "line at 1.5x",
    },
    judged=WATCHED,
    needs=nothing_needed,
    measure=measure,
)
