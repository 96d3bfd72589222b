"""What ``pathgrade hops`` does while it stays: the full screen, or a number of rounds and then a report."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.live import Live

from analytics.command_line import print_json, progress, show, width
from server.commands.follow import Following
from server.commands.keys import keys
from server.pages import live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from server.pages.live import Sight

STEP_S: Final = 0.25


def full_screen(following: Following) -> None:
    """Show the pair until q or Ctrl-C. Raises ``AskError`` where it cannot be shown at all."""
    following.begin()
    console = Console(highlight=False)
    with (
        suppress(KeyboardInterrupt),  # the other way out
        keys() as pressed,
        _stepping(following) as seen,
        Live(console=console, screen=True, auto_refresh=False) as shown,
    ):
        while True:
            shown.update(live.screen(seen(), console.width), refresh=True)
            key = pressed(STEP_S)
            if key in ("q", "Q"):
                return
            if key:
                following.touch(pause=not following.paused if key in ("p", "P") else None)


def report(following: Following, rounds: int, *, json: bool) -> None:
    """Make so many tests, then print what they saw. Raises ``AskError``."""
    following.begin(skip=True)
    began = following.clock()
    while following.tests_ended < rounds or not following.is_settled:
        following.asks = following.tests_ended < rounds
        following.step()
        time.sleep(STEP_S)
    seen = following.sight
    if json:
        return print_json(seen.detail)
    show(live.both_ways(seen, width()))
    return progress(f"{seen.rounds} rounds in {following.clock() - began:.0f} s")


@contextmanager
def _stepping(following: Following) -> Iterator[Callable[[], Sight]]:
    """Let a thread ask the server: keys are answered even where the server is not. Gives what it saw last."""
    ended = threading.Event()
    latest = [following.sight]

    def steps() -> None:
        while not ended.wait(STEP_S):
            following.tolerant_step()
            latest[0] = following.sight

    threading.Thread(target=steps, daemon=True).start()
    try:
        yield lambda: latest[0]
    finally:
        ended.set()


def is_terminal() -> bool:
    """Say whether a full screen can be drawn."""
    return sys.stdout.isatty() and Console().is_terminal and not Console().is_dumb_terminal
