"""What the agent asks of the machine: little memory, and to be run when it has something to do."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import signal
from pathlib import Path
from types import FrameType
from typing import Final

log: Final = logging.getLogger("pathgrade.agent.footprint")

MAPPED_FROM_BYTES: Final = 512 * 1024
"""Larger blocks are mapped and given back at once, at a page fault for every 4 KiB. glibc begins at 128 KiB,
but goes up with the first large block that it frees, to 32 MiB. A run of closed sessions (280 kB) is not to
be mapped afresh each time: a fifth of the agent's time in a storm went into faults, for 0.4 MB less."""

KEPT_BYTES: Final = 1024 * 1024
"""Free memory at the heap's end, past which it is given back."""

LONGEST_RUN_US: Final = 2_000_000
"""Of real time without a wait: then something is wrong here, and the agent is an ordinary process again."""

_M_MMAP_THRESHOLD: Final = -3  # malloc.h
_M_TRIM_THRESHOLD: Final = -1
_M_ARENA_MAX: Final = -8  # one heap is enough: threads wait for the interpreter's lock anyway


def be_small() -> None:
    """Keep glibc from holding on to memory; another C library is left as it is."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Give memory back that is free already but kept (malloc_trim(3)); another C library is left as it is."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


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
