"""What can go wrong while a package is made or tried."""

from __future__ import annotations


class PackError(Exception):
    """Base. ``remedy`` says what to try; ``exit_code`` is what the command ends with (sysexits.h)."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class CommandError(PackError):
    """A program ended with something else than 0."""


class ToolMissingError(PackError):
    """A program that is needed is not installed."""

    exit_code = 69
