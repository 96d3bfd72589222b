"""Keys of a full-screen view, one at a time, without Enter."""

from __future__ import annotations

import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Pressed = Callable[[float], str]
"""Waits at most so many seconds for a key; gives it, or nothing."""


@contextmanager
def keys() -> Iterator[Pressed]:
    """Read keys from standard input as they are pressed; without a terminal there, none ever is."""
    if not sys.stdin.isatty():
        yield _none
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)  # Ctrl-C still interrupts
    try:
        yield _next
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _none(wait_s: float) -> str:
    time.sleep(wait_s)
    return ""


def _next(wait_s: float) -> str:
    ready, _, _ = select.select([sys.stdin], [], [], wait_s)
    return sys.stdin.read(1) if ready else ""
