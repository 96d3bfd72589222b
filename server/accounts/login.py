"""A name and a password in, a session out; or how long to wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from server.accounts.devices import device_of, new_device
from server.accounts.passwords import Passwords
from server.accounts.people import Kept, People
from server.accounts.rows import audited, changing
from server.accounts.sessions import PASSWORD, Person, Sessions
from server.accounts.throttle import Throttle, keys_of
from server.database import DEFAULT_TENANT
from server.errors import BusyError

log: Final = logging.getLogger("pathgrade.server.accounts")

AT_ONCE: Final = 2
"""Hashes being made: each takes 64 MiB."""
MOST_WAITING: Final = 20
NOBODY: Final = "an unknown name"
"""What the audit log says of a name that nobody has: often it is a password, typed into the wrong field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Somebody wants in."""

    name: str
    password: str = field(repr=False)
    address: str
    browser: str = ""
    device: str | None = field(default=None, repr=False)  # the cookie of an earlier login, as sent


@dataclass(frozen=True, slots=True)
class Entered:
    """They are in: what goes into their cookies."""

    session: str = field(repr=False)
    device: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """They are not: the name or the password is wrong, or it is too early to try again."""

    wait_s: float = 0.0


class Logins:
    """The door. One for the server: it counts who fails."""

    def __init__(
        self,
        engine: sa.Engine,
        people: People,
        sessions: Sessions,
        passwords: Passwords,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._people = people
        self._sessions = sessions
        self._passwords = passwords
        self._clock = clock
        self._throttle = Throttle()
        self._hashing = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def enter(self, attempt: Attempt) -> Entered | Refused:
        """Let somebody in; raises ``BusyError`` and ``StateError``."""
        kept = await asyncio.to_thread(self._people.kept, attempt.name)
        device = device_of(kept.password, attempt.device) if kept is not None else None
        keys = keys_of(attempt.name, attempt.address, device)
        wait_s = self._throttle.wait_s(keys, self._clock())
        if wait_s > 0:
            return Refused(wait_s)
        self._throttle.failed(keys, self._clock())  # until it is known better: many may try at once
        try:
            right = await self.fits(kept, attempt.password)
        except BusyError:
            self._throttle.withdrawn(keys)  # who fills the queue must not make others wait after it
            raise
        if not right or kept is None or kept.account.disabled:
            await asyncio.to_thread(self._note_failure, kept, attempt)
            return Refused()
        self._throttle.succeeded(keys)
        return await asyncio.to_thread(self._let_in, kept, attempt)

    async def fits(self, kept: Kept | None, password: str) -> bool:
        """Check a password, a few at a time; raises ``BusyError``."""
        if self._waiting >= MOST_WAITING:
            raise BusyError("many log in at once", remedy="try again in a moment")
        self._waiting += 1
        try:
            async with self._hashing:
                right = kept.password if kept is not None else None
                return await asyncio.to_thread(self._passwords.fits, right, password)
        finally:
            self._waiting -= 1

    def guess(self, address: str) -> float:
        """Count a try at something else that can be guessed; returns how long to wait before it, in s."""
        keys = keys_of("", address, None)[1:]
        wait_s = self._throttle.wait_s(keys, self._clock())
        if wait_s <= 0:
            self._throttle.failed(keys, self._clock())
        return wait_s

    def _let_in(self, kept: Kept, attempt: Attempt) -> Entered:
        account, right = kept.account, kept.password
        if self._passwords.is_outdated(right):
            self._people.renew_hash(account.name, attempt.password)
            renewed = self._people.kept(account.name)
            right = renewed.password if renewed is not None else right
        person = Person(name=account.name, origin=PASSWORD, home=account.tenant, role=account.role)
        secret = self._sessions.begin(person, address=attempt.address, browser=attempt.browser)
        log.info("logged in name=%s from=%s", account.name, attempt.address)
        return Entered(secret, new_device(right))

    def _note_failure(self, kept: Kept | None, attempt: Attempt) -> None:
        home = kept.account.tenant if kept is not None else DEFAULT_TENANT
        name = kept.account.name if kept is not None else NOBODY
        detail = f"from={attempt.address}"
        if kept is not None and kept.account.disabled:
            detail += " disabled"
        log.warning("login refused name=%r %s", name, detail)
        with changing(self._engine) as connection:
            audited(connection, home=home, by=name, action="login-refused", subject=name, detail=detail)
