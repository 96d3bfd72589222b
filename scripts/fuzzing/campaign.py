"""Runs targets under atheris, one process each, and reads what libFuzzer says of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from fuzzing.targets import ROOT, Target

WORK: Final = ROOT / ".fuzz"
"""Inputs found by earlier runs, and those that crashed; not kept in the repository."""
INPUT_S: Final = 25
"""Longer than that for one input is a hang."""
MEMORY_MB: Final = 2048

_PROGRESS: Final = re.compile(r"^#(\d+)\s+(\w+)\s+cov: (\d+)", re.MULTILINE)
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_ARTIFACT: Final = re.compile(r"Test unit written to (\S+)")
_RAISED: Final = re.compile(r"=== Uncaught Python exception: ===\n(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """When a run ends: after so many seconds, or executions."""

    seconds: float | None = None
    runs: int | None = None

    def arguments(self) -> Iterator[str]:
        """As libFuzzer wants it."""
        if self.seconds is not None:
            yield f"-max_total_time={max(1, round(self.seconds))}"
        if self.runs is not None:
            yield f"-runs={self.runs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one target's run."""

    target: str
    executions: int
    seconds: float
    coverage_before: int  # branches of our code that the kept inputs reach
    coverage: int
    crash: str = ""  # file of the input
    why: str = ""

    @property
    def per_second(self) -> float:
        """Executions a second."""
        return self.executions / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, object]:
        """All of it, for ``--json``."""
        return asdict(self) | {"per_second": round(self.per_second, 1)}


def run(target: Target, limit: Limit, *, work: Path = WORK) -> Outcome:
    """Fuzz one target until the limit or a crash. Raises ``OSError``."""
    found, crashes = work / target.name, work / "crashes"
    for folder in (found, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "fuzzing.drive", target.name, *limit.arguments(),
        f"-max_len={target.most_input}", f"-timeout={INPUT_S}", f"-rss_limit_mb={MEMORY_MB}",
        "-print_final_stats=1", f"-artifact_prefix={crashes / target.name}-", str(found), str(target.corpus),
    ]  # fmt: skip  # pairs that belong together
    began_s = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, env=environment)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    return read(target.name, said, seconds=time.monotonic() - began_s, failed=done.returncode != 0)


def read(name: str, said: str, *, seconds: float, failed: bool) -> Outcome:
    """Read what libFuzzer printed. Pure."""
    progress = _PROGRESS.findall(said)
    executed = _EXECUTED.findall(said) or [number for number, _, _ in progress[-1:]] or ["0"]
    begun = [int(coverage) for _, word, coverage in progress if word in {"INITED", "READ"}]
    artifact = _ARTIFACT.findall(said)
    return Outcome(
        target=name,
        executions=int(executed[-1]),
        seconds=round(seconds, 1),
        coverage_before=max(begun, default=0),
        coverage=max((int(coverage) for _, _, coverage in progress), default=0),
        crash=artifact[-1] if artifact else "",
        why=_why(said) if failed or artifact else "",
    )


def _why(said: str) -> str:
    raised = _RAISED.findall(said)
    return raised[-1].strip() if raised else said.strip().rpartition("\n")[2][:200]


def table(outcomes: Sequence[Outcome]) -> str:
    """Put outcomes beside each other."""
    rows = [("target", "executions", "exec/s", "coverage", "new", "crash")]
    for one in outcomes:
        new = one.coverage - one.coverage_before
        numbers = (f"{one.executions:,}", f"{one.per_second:,.0f}", f"{one.coverage:,}", f"+{new}")
        rows.append((one.target, *numbers, one.why[:70] or "none"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
