"""READ FIRST: how long after a leg goes bad it is on the overview, in an alert, and at a webhook.

A lab of three sites with everything as it comes: cycles of five minutes, tests of the marked paths every 30
seconds, the rules of alerts as they are. The hotel's uplink gets a quarter of a second slower; the watch on
the lab's cable is the truth. Between runs the server is started again on the same data, so that each begins
with what a report knows and nothing held; only the time until an alert closes is shortened (5 s), which no
figure here has in it. Runs begin at different moments of the 30 seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from lab import alarm
from lab.errors import LabError
from lab.needs import check_machine
from lab.network import open_lab

from benches.bench import Bench, Report, Say
from benches.errors import NeedsError, PartError
from benches.figures import Cell, Figure, Target, number

RUNS: Final = 10
QUICK_RUNS: Final = 1
WATCH_S: Final = 30
QUIET_S: Final = 5
LIMIT_S: Final = 300
AIM_S: Final = 180
COLUMNS: Final = {"median": "median", "max": "max"}
STAGES: Final = {"overview": "on the overview", "alert": "in an alert", "webhook": "at the webhook"}


def measured(runs: int, say: Say) -> list[alarm.Stages]:
    """Switch the leg bad so many times."""
    rules, found = alarm.rules_with(quiet_s=QUIET_S), list[alarm.Stages]()
    lab = open_lab(alarm.SCENARIO, f"b{os.getpid()}", report=True)
    try:
        alarm.start(lab, rules)
        for run in range(runs):
            if run:
                alarm.mend(lab)
                alarm.start_again(lab, rules)
            alarm.wait_until_well(lab, "doctor", "nurse")
            time.sleep(run * WATCH_S / runs)
            found.append(alarm.stages(lab))
            told = ", ".join(f"{stage} {took_s:.0f} s" for stage, took_s in found[-1]._asdict().items())
            say(f"run {run + 1} of {runs}: {told}")
    finally:
        lab.down()
    return found


def cells(found: Sequence[alarm.Stages]) -> dict[str, dict[str, Cell]]:
    """Median and greatest of each stage."""
    by_stage = {stage: [getattr(one, stage) for one in found] for stage in STAGES}
    return {
        "median": {stage: median(values) for stage, values in by_stage.items()},
        "max": {"runs": float(len(found)), **{stage: max(values) for stage, values in by_stage.items()}},
    }


def measure(quick: bool, _folder: Path, say: Say) -> Report:
    """Run the bench. Raises ``BenchError``."""
    try:
        found = measured(QUICK_RUNS if quick else RUNS, say)
    except LabError as error:
        raise PartError(str(error), remedy=error.remedy) from error
    details = [
        f"{LIMIT_S} s are asked for, {AIM_S} s at most are aimed at. An alert waits 20 s to see if it lasts."
    ]
    return Report(cells(found), details, {"runs": [one._asdict() for one in found]})


def needs() -> None:
    """Raise ``NeedsError`` where no lab can be made."""
    try:
        check_machine()
    except LabError as error:
        raise NeedsError(str(error), remedy=error.remedy) from error


SECONDS: Final = number(0, "s")
BENCH: Final = Bench(
    name="alert",
    words="from a leg that goes bad to the overview, an alert and a webhook (20 minutes)",
    description=__doc__ or "",
    figures=(
        Figure("runs", "runs", number(0, "")),
        *(Figure(stage, words, SECONDS, Target(AIM_S)) for stage, words in STAGES.items()),
    ),
    headings=COLUMNS,
    judged="max",
    needs=needs,
    measure=measure,
)
