"""Who is logged in: sessions, each a secret of 256 bits in the browser's cookie, and its hash here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from analytics.clock import now_us
from server.accounts.roles import Role
from server.accounts.rows import LAST_WORD, audited, changing, hashed, new_secret, reading
from server.api.access import ALL_TENANTS
from server.database import ACCOUNTS, DEFAULT_TENANT, SESSIONS, TENANTS

PASSWORD: Final = "password"  # noqa: S105  # a word, not a password
OIDC: Final = "oidc"
MOST_OF_ONE: Final = 50
"""Sessions of one name; the oldest ends when there is one more."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session, as its owner sees it."""

    id: str  # the beginning of the hash
    made_us: int
    seen_us: int
    ends_us: int
    address: str
    browser: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A session that holds now."""

    hash: str
    name: str
    origin: str
    home: str
    looking_at: str
    role: Role
    seen_us: int


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a session lasts: unused, and at most."""

    idle_us: int
    most_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who has shown who they are."""

    name: str
    origin: str
    home: str
    role: Role


class Sessions:
    """The sessions in one state file."""

    def __init__(self, engine: sa.Engine, lifetimes: Lifetimes, *, clock: Callable[[], int] = now_us) -> None:
        self._engine = engine
        self._lifetimes = lifetimes
        self._clock = clock

    def begin(self, person: Person, *, address: str, browser: str) -> str:
        """Log somebody in; returns the secret for the cookie."""
        secret, at_us = new_secret(), self._clock()
        row = {
            "tenant": person.home,
            "name": person.name,
            "hash": hashed(secret),
            "origin": person.origin,
            "role": person.role.value,
            "looking_at": DEFAULT_TENANT if person.home == ALL_TENANTS else person.home,
            "made_us": at_us,
            "seen_us": at_us,
            "ends_us": at_us + self._lifetimes.most_us,
            "address": address[:LAST_WORD],
            "browser": browser[:LAST_WORD],
        }
        with changing(self._engine) as connection:
            _drop_oldest(connection, person)
            connection.execute(SESSIONS.insert().values(row))
            _said(connection, person, "login", f"from={address}")
        return secret

    def live(self, hash_: str) -> Live | None:
        """Find a session that holds: not over, not idle for too long, of an account that is not disabled."""
        same = sa.and_(ACCOUNTS.c.name == SESSIONS.c.name, SESSIONS.c.origin == PASSWORD)
        wanted = (
            sa.select(SESSIONS, ACCOUNTS.c.role.label("role_now"), ACCOUNTS.c.disabled)
            .select_from(SESSIONS.outerjoin(ACCOUNTS, same))
            .where(SESSIONS.c.hash == hash_)
        )
        with reading(self._engine) as connection:
            row = connection.execute(wanted).one_or_none()
        return self._holding(row) if row is not None else None

    def _holding(self, row: sa.Row[Any]) -> Live | None:
        now = self._clock()
        if now >= row.ends_us or now >= row.seen_us + self._lifetimes.idle_us:
            return None
        of_account = row.origin == PASSWORD
        if of_account and (row.role_now is None or row.disabled):
            return None
        return Live(
            hash=row.hash,
            name=row.name,
            origin=row.origin,
            home=row.tenant,
            looking_at=row.looking_at,
            role=Role(row.role_now if of_account else row.role),
            seen_us=row.seen_us,
        )

    def saw(self, seen_us: dict[str, int]) -> None:
        """Note when sessions were last used, and drop what is over."""
        now = self._clock()
        idle = SESSIONS.c.seen_us < now - self._lifetimes.idle_us
        with changing(self._engine) as connection:
            for hash_, at_us in seen_us.items():
                connection.execute(SESSIONS.update().where(SESSIONS.c.hash == hash_).values(seen_us=at_us))
            connection.execute(SESSIONS.delete().where(sa.or_(SESSIONS.c.ends_us <= now, idle)))

    def of(self, name: str, origin: str) -> list[Session]:
        """List somebody's sessions, the latest used first."""
        wanted = sa.select(SESSIONS).where(*_whose(name, origin)).order_by(SESSIONS.c.seen_us.desc())
        with reading(self._engine) as connection:
            return [_told(row) for row in connection.execute(wanted)]

    def end_all_but(self, origin: str, granted: Iterable[tuple[Role, str]]) -> int:
        """End the sessions from elsewhere whose role and home nobody is given any more; returns how many."""
        still = [sa.and_(SESSIONS.c.role == role.value, SESSIONS.c.tenant == home) for role, home in granted]
        gone = sa.and_(SESSIONS.c.origin == origin, sa.not_(sa.or_(sa.false(), *still)))
        with changing(self._engine) as connection:
            ended = connection.execute(SESSIONS.delete().where(gone)).rowcount
            if ended:
                told = {"by": "server", "action": "logout", "subject": origin}
                audited(connection, home=ALL_TENANTS, **told, detail=f"sessions={ended}, whose role is gone")
        return ended

    def look_at(self, hash_: str, tenant: str) -> bool:
        """Choose which tenant a session looks at; False where there is none of that name."""
        with changing(self._engine) as connection:
            if connection.execute(sa.select(TENANTS).where(TENANTS.c.name == tenant)).one_or_none() is None:
                return False
            connection.execute(SESSIONS.update().where(SESSIONS.c.hash == hash_).values(looking_at=tenant))
            row = connection.execute(sa.select(SESSIONS).where(SESSIONS.c.hash == hash_)).one_or_none()
            if row is not None:  # in that tenant's log: who comes from elsewhere is its business
                who = actor_of(row.name, row.origin)
                audited(connection, home=tenant, by=who, action="look", subject=tenant)
        return True

    def end(self, live: Live, id_: str | None = None, *, others: bool = False) -> int:
        """End this session, the one with that id, or all others of the same name; returns how many ended."""
        which = {
            True: SESSIONS.c.hash != live.hash,
            False: SESSIONS.c.hash == live.hash if id_ is None else SESSIONS.c.hash.startswith(id_),
        }[others]
        with changing(self._engine) as connection:
            ended = connection.execute(
                SESSIONS.delete().where(*_whose(live.name, live.origin), which)
            ).rowcount
            if ended:
                _said(connection, live, "logout", f"sessions={ended}")
        return ended


def actor_of(name: str, origin: str) -> str:
    """Name somebody for the audit log."""
    return name if origin == PASSWORD else f"{origin}:{name}"


def _said(connection: sa.Connection, whose: Person | Live, action: str, detail: str) -> None:
    who = actor_of(whose.name, whose.origin)
    audited(connection, home=whose.home, by=who, action=action, subject=who, detail=detail)


def _whose(name: str, origin: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return SESSIONS.c.name == name, SESSIONS.c.origin == origin


def _drop_oldest(connection: sa.Connection, person: Person) -> None:
    whose = _whose(person.name, person.origin)
    newest = sa.select(SESSIONS.c.hash).where(*whose).order_by(SESSIONS.c.seen_us.desc())
    kept = list(connection.execute(newest.limit(MOST_OF_ONE - 1)).scalars())
    connection.execute(SESSIONS.delete().where(*whose, SESSIONS.c.hash.not_in(kept)))


def _told(row: sa.Row[Any]) -> Session:
    return Session(
        id=row.hash[:12],
        made_us=row.made_us,
        seen_us=row.seen_us,
        ends_us=row.ends_us,
        address=row.address,
        browser=row.browser,
    )
