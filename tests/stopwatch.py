"""What may not be held against the code under test: time in which the machine did not let it run."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path


def waited_s(pid: int) -> float:
    """Seconds that the main thread of a process stood ready to run and was given no CPU, in its whole life.

    The kernel counts them (second field of /proc/PID/schedstat, Documentation/scheduler/sched-stats.rst);
    0 where it does not.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def ended_after_s(process: subprocess.Popen[str], at_most_s: float) -> float:
    """Wait for a process to end: seconds until it did, but those in which any thread of it waited for a CPU.

    Raises ``subprocess.TimeoutExpired`` if it does not end in ``at_most_s`` of anybody's time.
    """
    began_s, before_s = time.monotonic(), _all_waited_s(process.pid)
    waited = before_s
    while time.monotonic() - began_s < at_most_s:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
            return time.monotonic() - began_s - (waited - before_s)
        waited = max(waited, _all_waited_s(process.pid))
    raise subprocess.TimeoutExpired(process.args, at_most_s)


def _all_waited_s(pid: int) -> float:
    with suppress(OSError):
        return sum(waited_s(int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir())
    return 0.0


class Stopwatch:
    """Seconds since it was made, but those in which this thread, the main one, had to wait for a CPU."""

    def __init__(self) -> None:
        self._began_s = self._now_s()

    @property
    def took_s(self) -> float:
        """So far."""
        return self._now_s() - self._began_s

    def _now_s(self) -> float:
        return time.monotonic() - waited_s(os.getpid())
