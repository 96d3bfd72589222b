"""The books of accounts for a command on the server, beside a running server or before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.accounts.passwords import LONGEST, Passwords
from server.accounts.people import People
from server.accounts.tenants import Tenants
from server.accounts.tokens import Tokens
from server.database import connect, make_folder
from server.errors import DemandError
from server.state import FILE_NAME


@dataclass(frozen=True, slots=True)
class Books:
    """What a command may change."""

    people: People
    tokens: Tokens
    tenants: Tenants


@contextmanager
def books(data: Path) -> Iterator[Books]:
    """Open them in a data folder; raises ``StateError``. A running server sees changes within a second."""
    make_folder(data)
    engine = connect(data / FILE_NAME)
    try:
        yield Books(People(engine, Passwords()), Tokens(engine), Tenants(engine))
    finally:
        engine.dispose()


def password_in(file: Path) -> str:
    """Read a password from the first line of a file; raises ``DemandError``."""
    try:
        with file.open() as opened:
            return opened.readline(4 * LONGEST).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise DemandError(
            f"read {file}: {why}", remedy="name a file whose first line is the password"
        ) from error
