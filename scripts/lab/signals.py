"""Ctrl-C, SIGTERM, SIGHUP: the first one interrupts; later ones are ignored, as the end is under way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt_once() -> None:
    """From now on, the first of them raises ``KeyboardInterrupt`` in the main thread."""
    for one in ENDING:
        signal.signal(one, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    for one in ENDING:
        signal.signal(one, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold them off for a while; every wait inside has a bound, so it cannot hang for long."""
    before = {one: signal.signal(one, signal.SIG_IGN) for one in ENDING}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
