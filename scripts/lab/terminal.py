"""What the demo and the lab's command print: steps with their seconds, progress, errors with remedies."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lab.errors import LabError
from lab.network import Lab

NAME_WIDTH: Final = 8
KEPT_LOGS: Final = Path("/var/log/pathgrade-lab")


def say_error(error: LabError) -> None:
    """Print what went wrong and what to try, one way out to a line."""
    print(f"error: {error}", file=sys.stderr)
    for place, way in enumerate(filter(None, error.remedy.splitlines())):
        print(f"  try: {way}" if place == 0 else f"  or:  {way}", file=sys.stderr)


def keep_logs(lab: Lab, error: LabError) -> None:
    """Keep the logs of a lab that failed, and say where: ``down`` removes its folder."""
    kept = KEPT_LOGS / lab.name
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for log in lab.parts.logs.glob("*.log"):
        shutil.copy(log, kept)
    error.remedy = (error.remedy or f"read the logs in {kept}").replace(str(lab.folder), str(kept))


class Steps:
    """One line per step, written when it is done; while it runs, a terminal shows that it does."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[Callable[[str], None]]:
        """Time a step. The value takes better words for what was done."""
        words = [what]
        began = time.monotonic()
        with self._console.status(f"{name:<{NAME_WIDTH}}{what}"):
            yield words.append
        self._done(name, words[-1], began)

    @contextmanager
    def progress(self, name: str, what: str) -> Iterator[Callable[[int, int], None]]:
        """Show how many of how many are done."""
        began, last = time.monotonic(), [0, 0]
        columns = (
            TextColumn(f"{name:<{NAME_WIDTH - 1}}"),
            MofNCompleteColumn(),
            TextColumn(what),
            BarColumn(),
        )
        quiet = not self._console.is_terminal
        bar = Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True, disable=quiet)
        with bar:
            task = bar.add_task(what, total=None)

            def show(done: int, total: int) -> None:
                last[:] = [done, total]
                bar.update(task, completed=done, total=total)

            yield show
        self._done(name, f"{last[0]} of {last[1]} {what}", began)

    def _done(self, name: str, what: str, began: float) -> None:
        self._console.print(f"{name:<{NAME_WIDTH}}{what}  [green]✓[/] {time.monotonic() - began:.1f} s")
