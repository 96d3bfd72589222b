"""How a long-lived process keeps its memory from growing by what it has let go of already.

glibc keeps freed memory, in a heap for each few threads. Arrow and DuckDB have allocators of their own, which
do as well. And Python looks for garbage that refers to itself only when there is a quarter more of it than of
everything else: of a process that has loaded much, that is megabytes, scattered over the heap (a tested pair
leaves 40 kB of it behind).
"""

from __future__ import annotations

import ctypes
import gc
import os
from typing import Final

MAPPED_FROM_BYTES: Final = 512 * 1024
"""Larger blocks are mapped and given back at once, at a page fault for every 4 KiB. glibc begins at 128 KiB,
but goes up with the first large block that it frees, to 32 MiB. A run of closed sessions (280 kB) is not to
be mapped afresh each time: a fifth of the agent's time in a storm went into faults, for 0.4 MB less."""

KEPT_BYTES: Final = 1024 * 1024
"""Free memory at the heap's end, past which it is given back."""

GIVES_BACK: Final = {"allocator_background_threads": True}
"""Settings of a DuckDB: one thread for all databases gives back what is free, else the next question does."""

_M_MMAP_THRESHOLD: Final = -3  # malloc.h
_M_TRIM_THRESHOLD: Final = -1
_M_ARENA_MAX: Final = -8


def be_small(heaps: int = 1, mapped_from_bytes: int = MAPPED_FROM_BYTES) -> None:
    """Keep glibc from holding on to memory; another C library is left as it is.

    One heap is enough for threads that wait for the interpreter's lock anyway. To be called before there
    are threads.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, mapped_from_bytes)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_ARENA_MAX, heaps)


def one_pool() -> None:
    """Have Arrow take its memory from glibc too; to be called before pyarrow is loaded.

    Arrow's own pool keeps what is freed for each thread that ever asked, and no other thread can have it
    given back: 20 MB more in each cycle of fifty agents.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def settle() -> None:
    """Leave what is loaded by now out of all later looks for garbage; for when a process is ready, once."""
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def tidy() -> None:
    """Look for garbage; a millisecond once a process has settled."""
    gc.collect()


def give_back() -> None:
    """Give back what is free (malloc_trim(3)); another C library is left as it is."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
