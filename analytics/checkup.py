"""A checkup: what was looked at, what was seen, and what to do. ``pathgrade doctor`` is made of these.

A part (the host, the agent, the server, the fleet) is a table of questions. A question returns what it found,
or raises one of the errors with a ``remedy``: then that is what it found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from itertools import groupby
from typing import Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analytics import words

WIDE_FROM: Final = 110
"""Columns of a terminal from which on what to do stands beside what was seen, else under it."""


class State(StrEnum):
    """How it is."""

    OK = "ok"
    LOOK = "look"  # it works, but not as well or as safely as it could
    WRONG = "wrong"


class Found(msgspec.Struct, frozen=True):
    """What a question came to. ``remedy`` says what to do where it is not ok."""

    state: State
    seen: str
    remedy: str = ""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a checkup."""

    part: str
    name: str
    state: State
    seen: str
    remedy: str = ""


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    checks: list[Check]

    @property
    def exit_code(self) -> int:
        """1 where anything is wrong, else 0."""
        return int(self.count(State.WRONG) > 0)

    def count(self, state: State) -> int:
        """Count the checks of a state."""
        return sum(check.state is state for check in self.checks)


Ask = Callable[[], Found]


def ok(seen: str) -> Found:
    """All is well."""
    return Found(State.OK, seen)


def look(seen: str, remedy: str) -> Found:
    """It works, but."""
    return Found(State.LOOK, seen, remedy)


def wrong(seen: str, remedy: str) -> Found:
    """It does not work."""
    return Found(State.WRONG, seen, remedy)


def asked(part: str, questions: Mapping[str, Ask]) -> list[Check]:
    """Ask each; an error with a remedy, or one of the system, is an answer. Other errors are raised."""
    return [_check(part, name, _answer(ask)) for name, ask in questions.items()]


def failed(part: str, name: str, error: Exception) -> list[Check]:
    """Say that there is nothing more to ask of a part: this went wrong."""
    return [_check(part, name, wrong(str(error), getattr(error, "remedy", "")))]


def _answer(ask: Ask) -> Found:
    try:
        return ask()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return wrong(f"{where}{error.strerror or error}", "run this as root, or as the user that owns it")
    except Exception as error:
        remedy = getattr(error, "remedy", None)
        if remedy is None:
            raise
        return wrong(str(error), remedy)


def _check(part: str, name: str, found: Found) -> Check:
    return Check(part=part, name=name, state=found.state, seen=found.seen, remedy=found.remedy)


STYLES: Final = {State.OK: "green", State.LOOK: "yellow", State.WRONG: "bold red"}


def drawn(made: Checkup, width: int) -> RenderableType:
    """Lay a checkup out, part by part, and say in a sentence what it comes to."""
    parts = [_part(name, list(checks), width) for name, checks in groupby(made.checks, lambda c: c.part)]
    return Group(*(line for part in parts for line in (part, "")), Text(summary(made), "bold"))


def summary(made: Checkup) -> str:
    """Say what a checkup comes to, as in '2 things are wrong, 1 to look at, 9 well'."""
    bad, odd, well = (made.count(state) for state in (State.WRONG, State.LOOK, State.OK))
    if not bad and not odd:
        return f"All {well} checks are well."
    is_wrong = f"{words.count(bad, 'thing')} {'is' if bad == 1 else 'are'} wrong"
    return f"{is_wrong if bad else 'Nothing is wrong'}, {odd} to look at, {well} well."


def _part(name: str, checks: Sequence[Check], width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False, title_justify="left")
    beside = width >= WIDE_FROM
    table.add_column(name, no_wrap=True, min_width=16)
    table.add_column("", no_wrap=True, min_width=5)
    table.add_column("seen", header_style="dim", overflow="fold", ratio=1 if beside else None)
    if beside:
        table.add_column("what to do", header_style="dim", overflow="fold", ratio=1)
        table.expand = True
    for check in checks:
        remedy = "" if check.state is State.OK else check.remedy
        cells = [Text(check.name), Text(check.state.value, STYLES[check.state])]
        if beside:
            table.add_row(*cells, Text(check.seen), Text(remedy))
        else:
            table.add_row(*cells, Text("\n→ ".join([check.seen, *filter(None, remedy.splitlines())])))
    return table
