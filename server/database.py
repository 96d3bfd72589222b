"""The SQLite file under ``server.state``: its tables, its lock, its transactions."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from server.errors import StateError, StateLockedError, StateVersionError

STATE_VERSION: Final = 3
"""What each step to it does: ``server.upgrades``."""
LOCK_NAME: Final = "server.lock"
DEFAULT_TENANT: Final = "default"
BUSY_S: Final = 5.0  # a token command and the server write a few rows each; longer means something hangs

METADATA: Final = sa.MetaData()

VERSION: Final = sa.Table("state_version", METADATA, sa.Column("version", sa.Integer, nullable=False))

TENANTS: Final = sa.Table("tenants", METADATA, sa.Column("name", sa.Text, primary_key=True))

TOKENS: Final = sa.Table(
    "tokens",
    METADATA,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), nullable=False),
    sa.Column("seats", sa.Integer, nullable=False),
    sa.Column("used", sa.Integer, nullable=False, default=0),
    sa.Column("expires_us", sa.BigInteger, nullable=False),
)

REPLACES: Final = sa.Table(
    # Beside TOKENS, so that a database of before needs no change.
    "replaces",
    METADATA,
    sa.Column("hash", sa.Text, sa.ForeignKey("tokens.hash"), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),  # the only agent that the token is for, whatever its keys
)

AGENTS: Final = sa.Table(
    "agents",
    METADATA,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("services", sa.Text, nullable=False),  # JSON list of ServiceOffer
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("token_hash", sa.Text, nullable=False),
    sa.Column("enrolled_us", sa.BigInteger, nullable=False),
    sa.Column("seen_us", sa.BigInteger, nullable=False),
)

IDENTITIES: Final = sa.Table(
    # Beside AGENTS, so that a database of before there were identity keys needs no change.
    "identities",
    METADATA,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("key", sa.LargeBinary, nullable=False),  # Ed25519, public
)

REVOKED: Final = sa.Table(
    "revoked",  # agents that are let in no more; a database of before has none
    METADATA,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
)

AUDIT: Final = sa.Table(
    "audit",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    # Of a chain of rows (analytics/audit_chain.py); ``server.ledger`` writes them, and nobody else.
    sa.Column("seq", sa.Integer),
    sa.Column("hash", sa.LargeBinary),
)

AUDIT_CHAINS: Final = sa.Table(
    "audit_chains",  # where each goes on; a database of before has none
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),  # of the last row
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("adopted", sa.Integer, nullable=False),  # rows up to here are of before there were chains
)

AUDIT_MARKS: Final = sa.Table(
    "audit_marks",  # ``analytics.trust.AuditMark``, signed
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("gone", sa.Boolean, primary_key=True),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("row_id", sa.Integer, nullable=False),  # of the row, to find it again
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)

MARKS: Final = sa.Table(
    "marks",  # paths that matter; a database of before has none
    METADATA,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), primary_key=True),
    sa.Column("agent", sa.Text, primary_key=True),
    sa.Column("peer", sa.Text, primary_key=True),  # empty: every path of the agent
)

SERVICES: Final = sa.Table(
    "services",  # what people tagged beside what agents offer; a database of before has none
    METADATA,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), primary_key=True),
    sa.Column("agent", sa.Text, primary_key=True),
    sa.Column("port", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
)

ACCOUNTS: Final = sa.Table(
    "accounts",  # of people; a database of before has none
    METADATA,
    sa.Column("tenant", sa.Text, nullable=False),  # or "*": of all of them
    sa.Column("name", sa.Text, primary_key=True),  # once in the whole server: a login names no tenant
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("password", sa.Text, nullable=False),  # argon2id, in PHC form
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("made_us", sa.BigInteger, nullable=False),
)

SESSIONS: Final = sa.Table(
    "sessions",  # of who logged in at a page
    METADATA,
    sa.Column("tenant", sa.Text, nullable=False),  # or "*", as the account's
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("origin", sa.Text, nullable=False),  # "password" or "oidc"
    sa.Column("role", sa.Text, nullable=False),  # an account's counts as it is now; oidc's as it was told
    sa.Column("looking_at", sa.Text, nullable=False),  # tenant
    sa.Column("made_us", sa.BigInteger, nullable=False),
    sa.Column("seen_us", sa.BigInteger, nullable=False),
    sa.Column("ends_us", sa.BigInteger, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("browser", sa.Text, nullable=False),
    sa.Index("sessions_of", "name"),
)

ACCESS_TOKENS: Final = sa.Table(
    "access_tokens",  # of programs
    METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),  # or "*"
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("made_us", sa.BigInteger, nullable=False),
    sa.Column("expires_us", sa.BigInteger),  # null: never
    sa.Column("seen_us", sa.BigInteger),  # null: not yet
)

ALERTS: Final = sa.Table(
    "alerts",  # ``server.alerts.book``; a database of before has none
    METADATA,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),  # of the cause
    sa.Column("first_us", sa.BigInteger, primary_key=True),  # of this occurrence
    sa.Column("closed_us", sa.BigInteger, index=True),  # NULL: pending or open
    sa.Column("body", sa.LargeBinary, nullable=False),  # JSON of ``server.alerts.model.Alert``
)

SILENCES: Final = sa.Table(
    "silences",
    METADATA,
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("until_us", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # JSON of ``server.alerts.model.Silence``
)

DELIVERIES: Final = sa.Table(
    "deliveries",  # what receivers are still to be told, in order
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), nullable=False),
    sa.Column("receiver", sa.Text, nullable=False),
    sa.Column("made_us", sa.BigInteger, nullable=False),
    sa.Column("due_us", sa.BigInteger, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("body", sa.LargeBinary, nullable=False),  # JSON of ``server.alerts.model.Notice``
    sa.Index("deliveries_of", "tenant", "receiver", "number"),
    sqlite_autoincrement=True,  # a number is never given twice: receivers know a delivery by it
)


def make_folder(data: Path) -> None:
    """Make the data folder if it is not there; raises ``StateError``."""
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(data, error.strerror or "") from error


def take_lock(path: Path) -> int:
    """Keep other servers out until the returned descriptor is closed; raises ``StateError``."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path.parent, error.strerror or "") from error
    try:
        _give_to_owner(lock, path.parent)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise StateLockedError(
            f"open {path.parent}: another pathgrade server holds it",
            remedy="stop that server, or give this one another --data folder",
        ) from error
    except OSError as error:
        os.close(lock)
        raise _unusable(path.parent, error.strerror or "") from error
    return lock


def connect(path: Path, *, upgrades: bool = False) -> sa.Engine:
    """Open the database, and make its tables on the first run. Raises ``StateError``.

    One of an older version is upgraded; ``upgrades``: who asks holds the folder's lock already.
    """
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_S})
    sa.event.listen(engine, "connect", _configure)
    sa.event.listen(engine, "begin", _begin)
    try:
        _make_private(path)
        with transaction(engine) as connection:
            METADATA.create_all(connection)
            version = _check_version(connection, path)
        if version < STATE_VERSION:
            from server.upgrades import bring  # noqa: PLC0415  # it needs the tables above

            with nullcontext() if upgrades else _held(path.parent / LOCK_NAME):
                bring(engine, version)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _make_private(path: Path) -> None:
    """Create the file for the owner only; SQLite gives its WAL the same mode.

    A file that is there is not even opened: closing it again would let go of every lock that this process
    holds on it (POSIX; https://sqlite.org/howtocorrupt.html, 2.2), and a command beside the server, the last
    one as it thinks, would delete the WAL under the server's hands.
    """
    try:
        made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _give_to_owner(made, path.parent)
        finally:
            os.close(made)
    except FileExistsError:
        pass
    except OSError as error:
        raise _unusable(path.parent, error.strerror or "") from error


def _give_to_owner(made: int, folder: Path) -> None:
    """Make what root made the folder's owner's: the server that runs there is not root."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(made, owner.st_uid, owner.st_gid)


def _configure(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin below, not where the driver guesses
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    # A writer takes the lock at once: upgrading a read transaction fails where waiting would do.
    write = connection.get_execution_options().get("write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def transaction(engine: sa.Engine, *, write: bool = True) -> Iterator[sa.Connection]:
    """One transaction; what the database says against it becomes a ``StateError``."""
    try:
        with engine.connect().execution_options(write=write) as connection, connection.begin():
            yield connection
    except sa.exc.DatabaseError as error:
        raise _unusable(Path(str(engine.url.database)), str(error.orig)) from error


def _check_version(connection: sa.Connection, path: Path) -> int:
    version: int | None = connection.execute(sa.select(VERSION.c.version)).scalar_one_or_none()
    if version is None:
        connection.execute(VERSION.insert().values(version=STATE_VERSION))
        connection.execute(TENANTS.insert().values(name=DEFAULT_TENANT))
    elif version > STATE_VERSION:
        raise StateVersionError(
            f"open {path}: state version {version}; this pathgrade knows {STATE_VERSION}",
            remedy="upgrade pathgrade, or use another --data folder",
        )
    return STATE_VERSION if version is None else version


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep servers out meanwhile: one of before would write as it used to. Raises ``StateLockedError``."""
    lock = take_lock(path)
    try:
        yield
    finally:
        os.close(lock)


def _unusable(path: Path, why: str) -> StateError:
    return StateError(
        f"use {path}: {why}", remedy="check that the --data folder exists, is writable and has space left"
    )
