"""READ FIRST: how often the leg that got slower is named, and its direction; how often one is for nothing.

Simulated paths (``topologies.py``), the product's own decision (``analytics/attribution.py``). A path on
which nothing changed is asked only where its least round trip passes what counts as a change, as the product
does.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final, NamedTuple

from analytics.added import Silence
from analytics.attribution import attribute
from analytics.detect import material_us
from benches import topologies
from benches.bench import Bench, Report, Say, nothing_needed
from benches.figures import Figure, Target, percent

PATHS: Final = 2_000
QUICK_PATHS: Final = 200
SEED: Final = 20261125
CLOCK_US: Final = 700  # how far the ends' clocks move between tests, as a standard deviation


class Found(NamedTuple):
    """Counts over all paths."""

    paths: int
    named: int  # of the degraded ones
    right_leg: int
    directed: int
    right_direction: int
    calm: int
    named_for_nothing: int

    @property
    def shares(self) -> dict[str, float]:
        """The figures that have targets."""
        return {
            "right_leg": self.right_leg / self.named,
            "right_direction": self.right_direction / self.directed,
            "named_share": self.named / self.paths,
            "silent_share": 1 - self.named_for_nothing / self.calm,
        }


def run(paths: int = PATHS, seed: int = SEED) -> Found:
    """Degrade one leg of each path, and leave another copy of it alone."""
    draw = random.Random(seed)
    counts = dict.fromkeys(Found._fields, 0)
    for _ in range(paths):
        path = topologies.topology(draw)
        wrong = topologies.fault(draw, path)
        before = [topologies.test(draw, path, None, draw.gauss(0, CLOCK_US)) for _ in range(topologies.TESTS)]
        usual, src, dst = topologies.usual_of(before)
        counts["paths"] += 1
        now = topologies.test(draw, path, wrong, draw.gauss(0, CLOCK_US))
        ends = topologies.traces(now, src, dst)
        found = attribute(now.facts, usual, from_src=ends[0], from_dst=ends[1])
        if not isinstance(found, Silence):
            counts["named"] += 1
            counts["right_leg"] += found.leg is wrong.leg
            counts["directed"] += found.direction is not None
            counts["right_direction"] += found.direction == wrong.way
        calm = topologies.test(draw, path, None, draw.gauss(0, CLOCK_US))
        counts["calm"] += 1
        if calm.facts.rtt_us - usual.rtt_us > material_us(usual.rtt_us):
            ends = topologies.traces(calm, src, dst)
            told = attribute(calm.facts, usual, from_src=ends[0], from_dst=ends[1])
            counts["named_for_nothing"] += not isinstance(told, Silence)
    return Found(**counts)


COLUMN: Final = "pathgrade"
FIGURES: Final = (
    Figure("right_leg", "right leg, of those named", percent, Target(0.97, at_least=True, timed=False)),
    Figure("named_share", "a leg is named, of paths degraded", percent),
    Figure(
        "right_direction", "right direction, of those told", percent, Target(0.9, at_least=True, timed=False)
    ),
    Figure("silent_share", "silent where nothing changed", percent, Target(0.99, at_least=True, timed=False)),
)


def measure(quick: bool, _folder: Path, say: Say) -> Report:
    """Simulate all paths."""
    paths = QUICK_PATHS if quick else PATHS
    say(f"{paths} random paths, one leg of each slower by 8 to 40 ms")
    found = run(paths)
    return Report({COLUMN: found.shares}, [], {"counts": found._asdict()})


BENCH: Final = Bench(
    name="legs",
    words="how often the leg that became slower is named",
    description=__doc__ or "",
    figures=FIGURES,
    headings={COLUMN: "pathgrade"},
    judged=COLUMN,
    needs=nothing_needed,
    measure=measure,
)
