"""What can go wrong in the lab.

::

    LabError
    ├── NeedsError       the machine lacks something: root, BTF, a program
    ├── ScenarioError    a scenario file that does not hold; says every mistake
    ├── NameTakenError   a lab of this name is up, or the port is occupied
    ├── CommandError     a system command failed
    ├── CableError       a cable did not start or refused a setting
    └── PartError        a process of the lab ended or did not get ready; carries the end of its log
"""

from __future__ import annotations

from collections.abc import Sequence


class LabError(Exception):
    """Base. ``remedy`` says what to try; ``exit_code`` is what a command ends with (sysexits.h)."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class NeedsError(LabError):
    """The machine cannot carry a lab."""

    exit_code = 77


class ScenarioError(LabError):
    """A scenario that does not hold."""

    exit_code = 65

    def __init__(self, path: str, mistakes: Sequence[str]) -> None:
        super().__init__(f"scenario {path}: " + "; ".join(mistakes), remedy="correct the scenario file")
        self.mistakes = tuple(mistakes)


class NameTakenError(LabError):
    """The lab's name or port is in use."""

    exit_code = 75


class CommandError(LabError):
    """A system command failed."""

    exit_code = 71


class CableError(LabError):
    """A cable did not start, or refused a setting."""

    exit_code = 71


class PartError(LabError):
    """A process of the lab ended, or did not get ready in time."""

    exit_code = 70
