"""What may not be held against the code under test: time in which the machine did not let it run."""

from __future__ import annotations

import os
import time
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
