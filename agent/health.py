"""What the agent costs its host, and what it lost."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, Protocol

from analytics.wire import Health

EVERY_S: Final = 30.0
_STATM: Final = Path("/proc/self/statm")  # proc(5): pages; the second is resident
_PAGE_KB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


class Watching(Protocol):
    """What this module needs of ``ebpf.load.Monitor``."""

    @property
    def seen(self) -> int:
        """Kernel events read."""

    @property
    def lost(self) -> int:
        """Kernel events lost."""


def cpu_us() -> int:
    """CPU time of this process since it started."""
    return time.process_time_ns() // 1_000


def rss_kb() -> int:
    """Resident memory of this process."""
    return int(_STATM.read_text().split()[1]) * _PAGE_KB


def health(watching: Watching | None, *, batches_waiting: int, packets_refused: int) -> Health:
    """Take stock."""
    return Health(
        cpu_us=cpu_us(),
        rss_kb=rss_kb(),
        events_seen=watching.seen if watching else 0,
        events_lost=watching.lost if watching else 0,
        batches_waiting=batches_waiting,
        packets_refused=packets_refused,
    )
