"""Logging in by OpenID Connect: the authorization code flow with PKCE (RFC 6749, RFC 7636, RFC 9700).

What must be remembered between going there and coming back is sealed in the browser's own cookie: nobody can
fill a memory here, and nobody can end another's login.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import msgspec
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from cryptography.fernet import Fernet, InvalidToken

from analytics.errors import UNREADABLE
from server.accounts.mapping import AmbiguousError, granted
from server.accounts.oidc_token import UnknownKeyError, checked_claims, groups_in, name_in
from server.accounts.sessions import OIDC, Person
from server.accounts.settings import OidcClient
from server.errors import IdentityAwayError, IdentityError

PENDING_S: Final = 600
"""For somebody to log in at the provider."""
TIMEOUT_S: Final = 10.0
MOST_BYTES: Final = 512 * 1024
FRESH_S: Final = 3_600.0
"""The provider's addresses and keys are taken again after so long."""
SOONEST_S: Final = 10.0
"""Its keys are not asked for again before, whatever tokens come."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says of itself (OpenID Connect Discovery 1.0, section 3): what we need of it."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class Keys(msgspec.Struct, frozen=True):
    """A JWK set (RFC 7517)."""

    keys: list[dict[str, Any]]


class Tokens(msgspec.Struct, frozen=True):
    """The token endpoint's answer: what we need of it."""

    id_token: str


class Pending(msgspec.Struct, frozen=True):
    """A login that is under way."""

    state: str
    nonce: str
    verifier: str
    then: str


class Oidc:
    """Sends people to the provider, and knows them when they come back."""

    def __init__(
        self,
        client: OidcClient,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.client = client
        self._monotonic = monotonic
        self._wall = wall
        self._seal = Fernet(Fernet.generate_key())
        self._known: tuple[float, Provider, Keys] | None = None

    async def begin(self, then: str) -> tuple[str, str]:
        """Return where to send somebody, and what to put into their cookie. Raises ``IdentityError``."""
        provider, _ = await self._provider()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        pending = Pending(state, nonce, verifier, then)
        asked = {
            "response_type": "code",
            "client_id": self.client.client_id,
            "redirect_uri": self.client.redirect_uri,
            "scope": self.client.scope,
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": create_s256_code_challenge(pending.verifier),
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in provider.authorization_endpoint else "?"
        url = f"{provider.authorization_endpoint}{joint}{urlencode(asked)}"
        return url, self._seal.encrypt(msgspec.json.encode(pending)).decode()

    async def finish(self, answer: Mapping[str, str], cookie: str) -> tuple[Person, str]:
        """Return who came back, and where they wanted to go. Raises ``IdentityError``."""
        pending = self._opened(cookie)
        if not secrets.compare_digest(answer.get("state", "").encode(), pending.state.encode()):
            raise IdentityError("this is not the login that was begun here", remedy=_AGAIN)
        if answer.get("iss", self.client.issuer) != self.client.issuer:  # RFC 9207
            raise IdentityError("another provider answered", remedy=_AGAIN)
        if "code" not in answer:
            why = answer.get("error_description") or answer.get("error") or "no code"
            raise IdentityError(f"the provider did not let you in: {why[:200]}", remedy=_AGAIN)
        provider, keys = await self._provider()
        id_token = await self._redeemed(provider, answer["code"], pending.verifier)
        claims = await self._claims(id_token, keys, pending.nonce)
        return self._person(claims), pending.then

    def _opened(self, cookie: str) -> Pending:
        try:
            raw = self._seal.decrypt(cookie.encode(), ttl=PENDING_S)
            return msgspec.json.decode(raw, type=Pending)
        except (InvalidToken, UnicodeEncodeError, *UNREADABLE) as error:
            raise IdentityError("no login was begun here, or too long ago", remedy=_AGAIN) from error

    async def _claims(self, id_token: str, keys: Keys, nonce: str) -> dict[str, Any]:
        def check(keys: Keys) -> dict[str, Any]:
            return checked_claims(
                id_token,
                {"keys": keys.keys},
                issuer=self.client.issuer,
                client_id=self.client.client_id,
                nonce=nonce,
                now_s=int(self._wall()),
            )

        try:
            return check(keys)
        except UnknownKeyError:
            _, newer = await self._provider(fresh_s=SOONEST_S)  # keys change now and then
            return check(newer)

    def _person(self, claims: Mapping[str, Any]) -> Person:
        name = name_in(claims, self.client.name_claim)
        try:
            grant = granted(self.client.grants, groups_in(claims, self.client.groups_claim))
        except AmbiguousError as error:
            raise IdentityError(f"{name}: {error}", remedy="change the groups, or oidc_roles") from error
        if grant is None:
            raise IdentityError(
                f"{name} has no role here", remedy="ask an admin to map one of your groups in oidc_roles"
            )
        return Person(name=name, origin=OIDC, home=grant.home, role=grant.role)

    async def _provider(self, fresh_s: float = FRESH_S) -> tuple[Provider, Keys]:
        """Ask the provider for its addresses and keys, or remember them."""
        now_s = self._monotonic()
        if self._known is None or now_s - self._known[0] >= fresh_s:
            issuer = self.client.issuer
            provider = await _asked(
                "GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration", kind=Provider
            )
            if provider.issuer != issuer:
                raise IdentityError(
                    f"the provider calls itself {provider.issuer!r}", remedy="set oidc_issuer to just that"
                )
            self._known = (now_s, provider, await _asked("GET", provider.jwks_uri, kind=Keys))
        return self._known[1:]

    async def _redeemed(self, provider: Provider, code: str, verifier: str) -> str:
        """Exchange the code for the ID token (RFC 6749, 4.1.3)."""
        client = self.client
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": client.redirect_uri,
            "code_verifier": verifier,
            "client_id": client.client_id,
        }
        basic = "client_secret_basic" in provider.token_endpoint_auth_methods_supported
        auth = None
        if client.client_secret is not None and basic:
            auth = httpx.BasicAuth(client.client_id, client.client_secret)
        elif client.client_secret is not None:
            form["client_secret"] = client.client_secret
        told: Tokens = await _asked("POST", provider.token_endpoint, kind=Tokens, data=form, auth=auth)
        return told.id_token


async def _asked(method: str, url: str, *, kind: type[Any], **sent: Any) -> Any:
    """Ask the provider, and read a bounded answer; raises ``IdentityError``."""
    try:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client,
            client.stream(method, url, headers={"Accept": "application/json"}, **sent) as answer,
        ):
            body = b""
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MOST_BYTES:
                    raise IdentityError(f"{method} {url}: over {MOST_BYTES} bytes", remedy=_PROVIDER)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise IdentityAwayError(
            f"{method} {url}: {error or type(error).__name__}", remedy=_PROVIDER
        ) from error
    if answer.status_code >= 500:
        raise IdentityAwayError(f"{method} {url}: {answer.status_code}", remedy=_PROVIDER)
    if answer.status_code != 200:
        raise IdentityError(f"{method} {url}: {answer.status_code}", remedy=_PROVIDER)
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise IdentityError(f"{method} {url}: {error}", remedy=_PROVIDER) from error


_AGAIN: Final = "log in once more: /login"
_PROVIDER: Final = "check oidc_issuer, oidc_client_id and oidc_client_secret_file, and the provider's log"
