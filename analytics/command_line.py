"""What every command's line shares: its options, how it prints, and how it reads a time.

Both sides' commands import this (``agent/commands``, ``server/commands``); an agent that runs does not.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPE_WIDTH: Final = 160
"""Columns of a table that no terminal limits: all of them."""

DEFAULT_URL: Final = "http://127.0.0.1:8080"

OWN_PROCESS: Final = "pathgrade"
"""Command name of agents: their own sessions are left out unless asked for."""

Url = Annotated[
    str, typer.Option("--url", envvar="PATHGRADE_URL", metavar="URL", help="Where the report is served.")
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="PATHGRADE_TOKEN",
        metavar="TOKEN",
        help="Who asks. [default: what is in ~/.config/pathgrade/token]",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Grade for this application profile. [default: the fleet's]"),
]
At = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="As it was then: 09:45, 2026-11-25T09:45Z, 2h ago as 2h."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def example(*commands: str) -> str:
    r"""Write the end of a command's help; ``\b`` keeps its lines from being joined."""
    return "\n".join(["\b", "Example:" if len(commands) == 1 else "Examples:", *(f"  {c}" for c in commands)])


def print_json(value: Any) -> None:
    """Print a value as the API would answer it, indented."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def show(drawn: RenderableType) -> None:
    """Print what was drawn, as wide as the terminal is."""
    from rich.console import Console

    Console(width=width(), highlight=False).print(drawn)


def width() -> int:
    """Columns to fill: the terminal's, or COLUMNS where set, or plenty in a pipe."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return PIPE_WIDTH


def as_text(moment_us: int | None) -> str | None:
    """Write a moment as the API reads it."""
    return None if moment_us is None else str(moment_us)


def progress(line: str) -> None:
    """Say how far something is, beside its output."""
    print(line, file=sys.stderr, flush=True)


_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str, option: str = "--expires") -> int:
    """Read a time such as 30m or 7d."""
    found = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a time such as 30m, 24h or 7d", param_hint=option)
    return int(found[1]) * _UNIT_S[found[2]]


def moment(text: str | None, option: str) -> int | None:
    """Read a moment; None where the option was not given."""
    import time

    from analytics.moments import EXAMPLES, moment_us

    if text is None:
        return None
    found = moment_us(text, time.time_ns() // 1_000)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a time such as {EXAMPLES}", param_hint=option)
    return found
