"""What the books of accounts share: secrets and their hashes, audit rows, the transaction that has both."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa

from analytics.clock import now_us
from server.api.access import ALL_TENANTS
from server.api.audits import AuditRow
from server.database import DEFAULT_TENANT, TENANTS, transaction
from server.errors import DemandError
from server.ledger import append

SECRET_BYTES: Final = 32
LAST_WORD: Final = 200
"""Characters kept of what a browser says of itself."""


def new_secret(prefix: str = "") -> str:
    """Draw 256 bits; a prefix says what for, so that a scan for lost secrets finds it."""
    return prefix + secrets.token_urlsafe(SECRET_BYTES)


def hashed(secret: str) -> str:
    """What is kept of a secret of 256 random bits: a fast hash is enough for those."""
    return hashlib.sha256(secret.encode()).hexdigest()


def audited(
    connection: sa.Connection, *, home: str, by: str, action: str, subject: str, detail: str = ""
) -> None:
    """Note who changed what, in the transaction of the change.

    What is of all tenants is in the audit log of the default one: its people run the server.
    """
    tenant = DEFAULT_TENANT if home == ALL_TENANTS else home
    row = AuditRow(at_us=now_us(), actor=by, action=action, subject=subject, detail=detail)
    append(connection, tenant, [row])


def check_home(connection: sa.Connection, home: str) -> None:
    """Raise ``DemandError`` for a tenant that there is not."""
    if home == ALL_TENANTS:
        return
    if connection.execute(sa.select(TENANTS).where(TENANTS.c.name == home)).one_or_none() is None:
        raise DemandError(
            f"no tenant is called {home!r}", remedy="pathgrade server tenant add NAME --data DIR adds one"
        )


@contextmanager
def changing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that writes; raises ``StateError``."""
    with transaction(engine) as connection:
        yield connection


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that reads; raises ``StateError``."""
    with transaction(engine, write=False) as connection:
        yield connection
