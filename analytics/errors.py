"""What can go wrong in analytics.

::

    AnalyticsError
    ├── WireError              something from outside does not read as what it claims to be
    │   ├── BatchError
    │   │   └── SchemaVersionError
    │   ├── MessageError
    │   └── SealError          something signed does not read, or is signed by another key
    │       └── SealVersionError   it is signed, in a version that is not known
    ├── StoreError             the data folder cannot be read or written
    │   ├── StoreLockedError   another process holds it
    │   ├── StoreFullError     no space left; nothing acknowledged is lost
    │   ├── StoreBusyError     more at once than is taken; come again later
    │   └── LakeError          the lake's catalog or its data cannot be reached; what was acknowledged is kept
    │       └── LakeSetupError the lake cannot be used as it is set or installed
    ├── RulesError             a rules file that does not hold
    ├── PolicyError            a policy that does not hold
    └── ExportError            the output cannot be written
"""

from __future__ import annotations

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what they should be; the last for those that nest too deep."""


class AnalyticsError(Exception):
    """Base. ``remedy`` says what to try; ``exit_code`` is what a command ends with (sysexits.h)."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class WireError(AnalyticsError):
    """Outside bytes that cannot be taken."""

    exit_code = 65


class BatchError(WireError):
    """A batch that is malformed, out of bounds or not the sender's."""


class SchemaVersionError(BatchError):
    """A batch of a schema version this build does not know."""

    def __init__(self, *, seen: int, known: int) -> None:
        self.seen = seen
        newer = "server" if seen > known else "agent"
        super().__init__(
            f"batch schema {seen}; this server knows {known}",
            remedy=f"upgrade the {newer}; the agent keeps its batches until then",
        )


class MessageError(WireError):
    """A control message that cannot be read."""


class SealError(WireError):
    """Something signed does not read, or is signed by another key."""


class SealVersionError(SealError):
    """Something that is signed is of a version that this build does not take."""

    def __init__(self, what: str, *, seen: int, known: int) -> None:
        super().__init__(
            f"a {what} of version {seen}; this build takes {known}",
            remedy=f"upgrade the {'server' if seen < known else 'agent'}",
        )


class StoreError(AnalyticsError):
    """The data folder cannot be used."""

    exit_code = 74


class StoreLockedError(StoreError):
    """Another process holds the data folder."""

    exit_code = 75


class StoreFullError(StoreError):
    """No space left on the device."""


class StoreBusyError(StoreError):
    """More is waiting to be written than the store keeps in memory: try again later."""

    exit_code = 75


class LakeError(StoreError):
    """The lake (a catalog in PostgreSQL, data in shared storage) cannot be reached."""

    exit_code = 69


class LakeSetupError(LakeError):
    """The lake cannot be used as it is set, or with what is installed."""

    exit_code = 78


class RulesError(AnalyticsError):
    """A rules file that does not hold."""

    exit_code = 78


class PolicyError(AnalyticsError):
    """A policy that does not hold: it is refused whole."""

    exit_code = 78


class ExportError(AnalyticsError):
    """The output of an export cannot be written."""

    exit_code = 73
