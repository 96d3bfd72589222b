"""What the agent asks of the machine besides little memory: to be run when it has something to do."""

from __future__ import annotations

import logging
import os
import resource
import signal
from pathlib import Path
from types import FrameType
from typing import Final

log: Final = logging.getLogger("pathgrade.agent.footprint")

LONGEST_RUN_US: Final = 2_000_000
"""Of real time without a wait: then something is wrong here, and the agent is an ordinary process again."""


def be_prompt() -> bool:
    """Run before ordinary processes, at the lowest real-time priority; False where this process may not.

    The agent works for milliseconds at a time. On a host whose CPUs are all busy an ordinary process may
    wait for seconds, and the ring of closed sessions overflows meanwhile. Its threads run so too: one that
    waits for a CPU while it holds the interpreter's lock would stop them all. The kernel's own limit for real
    time (95 %) stays, and a run of ``LONGEST_RUN_US`` ends it (RLIMIT_RTTIME, setrlimit(2)). To be called
    before there are threads.
    """
    signal.signal(signal.SIGXCPU, _be_ordinary)
    resource.setrlimit(resource.RLIMIT_RTTIME, (LONGEST_RUN_US, resource.RLIM_INFINITY))
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        log.warning("may not run in real time (CAP_SYS_NICE): a busy host may cost sessions")
        return False
    return True


def _be_ordinary(_number: int, _frame: FrameType | None) -> None:
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))
    log.error("ran for %d s without a wait: an ordinary process from here on", LONGEST_RUN_US // 1_000_000)
