"""READ FIRST for accounts: everything about who people are, wired, over the server's state file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from fastapi import Request, Response

from server.accounts.first import new_code
from server.accounts.known import COOKIE, Known, Rules
from server.accounts.login import Logins
from server.accounts.passwords import Passwords
from server.accounts.people import People
from server.accounts.proxies import Proxies, peer_of
from server.accounts.sessions import OIDC, Lifetimes, Live, Sessions
from server.accounts.tenants import Tenants
from server.accounts.tokens import Tokens
from server.api.access import Visitor
from server.database import connect
from server.errors import StateError
from server.settings import Settings
from server.state import FILE_NAME

if TYPE_CHECKING:
    from server.accounts.oidc import Oidc

log: Final = logging.getLogger("pathgrade.server.accounts")

FLUSH_S: Final = 30.0
DEVICE_COOKIE: Final = "pathgrade-device"
DEVICE_S: Final = 400 * 86_400
"""The longest that browsers keep a cookie."""
HOUR_US: Final = 3_600_000_000
MINUTE_US: Final = 60_000_000


@dataclass(slots=True, kw_only=True)
class Office:
    """Who people are, and how they show it."""

    engine: sa.Engine
    passwords: Passwords
    people: People
    sessions: Sessions
    tokens: Tokens
    tenants: Tenants
    logins: Logins
    known: Known
    oidc: Oidc | None
    proxies: Proxies
    public_url: str | None
    code: str  # for the page that makes the first account

    @classmethod
    def open(cls, settings: Settings, *, passwords: Passwords | None = None) -> Office:
        """Open the books in the data folder; raises ``StateError`` and ``SettingsError``."""
        engine = connect(settings.data / FILE_NAME)
        passwords = passwords or Passwords()
        people = People(engine, passwords)
        sessions = Sessions(
            engine, Lifetimes(settings.session_idle_minutes * MINUTE_US, settings.session_hours * HOUR_US)
        )
        tokens, tenants = Tokens(engine), Tenants(engine)
        rules, oidc = rules_of(settings), _oidc(settings)
        grants = settings.oidc_roles if oidc is not None else ()
        if ended := sessions.end_all_but(OIDC, [(grant.role, grant.home) for grant in grants]):
            log.info("sessions ended whose role oidc_roles gives nobody any more sessions=%d", ended)
        return cls(
            engine=engine,
            passwords=passwords,
            people=people,
            sessions=sessions,
            tokens=tokens,
            tenants=tenants,
            logins=Logins(engine, people, sessions, passwords),
            known=Known(
                rules=rules, sessions=sessions, tokens=tokens, accounts=people.any, tenants=tenants.names
            ),
            oidc=oidc,
            proxies=rules.proxies,
            public_url=settings.public_url,
            code=new_code(),
        )

    def close(self) -> None:
        """Write who was last seen when, and let go of the file."""
        try:
            self._flush()
        finally:
            self.engine.dispose()

    async def run(self) -> None:
        """Write now and then who was last seen when, and drop what is over; until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await asyncio.to_thread(self._flush)

    def _flush(self) -> None:
        sessions, self.known.sessions_seen = self.known.sessions_seen, {}
        tokens, self.known.tokens_seen = self.known.tokens_seen, {}
        try:
            self.sessions.saw(sessions)
            self.tokens.saw(tokens)
        except StateError as error:
            log.error("not noted who was seen why=%s", error)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Let a change count at once."""
        try:
            yield
        finally:
            self.known.forget()

    async def act(self, change: Any, *words: Any, **named: Any) -> Any:
        """Do something that writes or hashes, in a thread; it counts at once. Raises what it raises."""
        with self.changing():
            return await asyncio.to_thread(change, *words, **named)

    def address_of(self, request: Request) -> str:
        """Say who asks, through the proxies that are believed."""
        return self.proxies.client(peer_of(request), request.headers)

    def is_secure(self, request: Request) -> bool:
        """Tell whether the browser speaks TLS, to us or to a proxy that is believed."""
        return (
            request.url.scheme == "https"
            or (self.public_url or "").startswith("https:")
            or self.proxies.speaks_tls(peer_of(request), request.headers)
        )

    def let_in(self, request: Request, response: Response, session: str, device: str | None = None) -> None:
        """Give a browser its cookies."""
        self.set_cookie(request, response, COOKIE, session)
        if device is not None:
            self.set_cookie(request, response, DEVICE_COOKIE, device, max_age=DEVICE_S, path="/login")

    def set_cookie(self, request: Request, response: Response, name: str, value: str, **named: Any) -> None:
        """Set a cookie that no script reads and that other sites' forms do not send."""
        secure = self.is_secure(request)
        response.set_cookie(name, value, httponly=True, samesite="lax", secure=secure, **named)

    def live(self, visitor: Visitor) -> Live | None:
        """Find the session that somebody asks with."""
        return self.sessions.live(visitor.session)


def rules_of(settings: Settings) -> Rules:
    """Take what counts for who is known how from the settings."""
    by_proxy = settings.proxy_header is not None
    return Rules(
        proxies=Proxies(settings.proxies),
        proxy_header=settings.proxy_header,
        proxy_groups_header=settings.proxy_groups_header,
        proxy_grants=settings.proxy_roles,
        local_reading=settings.local_reading,
        others=by_proxy or settings.oidc_issuer is not None,
    )


def _oidc(settings: Settings) -> Oidc | None:
    client = settings.oidc_client()
    if client is None:
        return None
    from server.accounts.oidc import Oidc  # noqa: PLC0415  # only who logs in that way loads its libraries

    return Oidc(client)


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Office]:
    """Open the books for as long as the context lasts."""
    office = Office.open(settings)
    try:
        yield office
    finally:
        office.close()
