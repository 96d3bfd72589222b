"""What can go wrong in a bench.

::

    BenchError
    ├── NeedsError      the machine lacks something: root, BTF, a program
    ├── CommandError    a system command failed
    └── PartError       a load or a watcher ended, or said nothing in time; carries its last words
"""

from __future__ import annotations


class BenchError(Exception):
    """Base. ``remedy`` says what to try; ``exit_code`` is what the command ends with (sysexits.h)."""

    exit_code = 70

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class NeedsError(BenchError):
    """The machine cannot carry the bench."""

    exit_code = 77


class CommandError(BenchError):
    """A system command failed."""

    exit_code = 71


class PartError(BenchError):
    """A load or a watcher ended, or said nothing in time."""
