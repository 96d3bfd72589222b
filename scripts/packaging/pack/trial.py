"""One run of a trial of packages: what is noted, when, and what is asked of the machines again and again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pack.errors import PackError
from pack.found import Findings, drawn
from pack.machines import Machine

POLL_S: Final = 1.0


class Trial:
    """One run: what is noted, and when."""

    def __init__(self, server: Machine, clinic: Machine, debs: Path) -> None:
        self.server = server
        self.clinic = clinic
        self.debs = debs
        self.findings = Findings()
        self._began_s = time.monotonic()
        self.began_at_s = time.time()  # by the clock that the journals go by

    def note(self, step: str, expected: str, seen: object, ok: bool) -> None:
        """Add a row, and show it at once."""
        self.findings.add(step, expected, seen, ok, self.elapsed_s())
        print(drawn(self.findings.rows[-1:]).splitlines()[-1], flush=True)

    def step(self, name: str, expected: str, do: Callable[[], str]) -> None:
        """Do something that raises ``PackError`` where it fails; what it returns was seen."""
        try:
            self.note(name, expected, do(), True)
        except PackError as error:
            self.note(name, expected, str(error).replace("\n", " | ")[-300:], False)

    def elapsed_s(self) -> float:
        """Since the first command."""
        return time.monotonic() - self._began_s


def letters(machine: Machine) -> str:
    """Name the graded paths; nothing where none is."""
    told: dict[str, Any] = json.loads(machine.run("pathgrade", "paths", "--json"))
    graded = {
        f"{path['src']} to {path['dst']}": (path["grade"] or {}).get("letter") for path in told["paths"]
    }
    return ", ".join(
        f"{path}: {letter}" for path, letter in sorted(graded.items()) if letter not in (None, "", "?")
    )


def online(machine: Machine) -> int:
    """Count the agents that are on line."""
    told: list[dict[str, Any]] = json.loads(machine.run("pathgrade", "agents", "--json"))
    return sum(bool(one["online"]) for one in told)


def until(ask: Callable[[], str], within_s: float) -> str:
    """Ask until there is an answer; a failure is an answer only when the time is over."""
    until_s = time.monotonic() + within_s
    while True:
        failure: PackError | None = None
        try:
            if said := ask():
                return said
        except PackError as error:
            failure = error
        if time.monotonic() > until_s:
            raise failure or PackError(f"nothing within {within_s:.0f} s")
        time.sleep(POLL_S)
