"""Who asks: the ways to be known, in one order. The first that a request uses counts, and no other.

==== ===================== ====================================================================
1    access token          ``Authorization: Bearer pga-...``; a wrong one is refused, whatever else is there
2    trusted proxy         a name in the header that is set, from an address that is listed
3    session               the cookie of a login, by password or by OpenID Connect
4    nobody                reading only, from the server's own host: before there is an account, or by setting
==== ===================== ====================================================================
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fastapi import Request

from analytics.clock import now_us
from server.accounts.lookup import Lookup
from server.accounts.mapping import AmbiguousError, Grant, granted
from server.accounts.proxies import NO_PROXIES, Proxies, peer_of, said_groups, said_name
from server.accounts.roles import SCOPES
from server.accounts.rows import hashed
from server.accounts.sessions import Live, Sessions, actor_of
from server.accounts.tokens import AccessToken, Tokens
from server.api.access import ALL_TENANTS, Scope, Visitor, not_known
from server.api.csrf import csrf_key
from server.api.local import is_local
from server.api.problem import ProblemError
from server.database import DEFAULT_TENANT

COOKIE: Final = "pathgrade"
LONGEST_SECRET: Final = 256
NO_ACCOUNT: Final = (
    "there is no account yet: on the server, pathgrade server account add NAME --role admin --data DIR\n"
    "from the server's own host, the page /setup takes the code in the server's log"
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say of who is known how."""

    proxies: Proxies = NO_PROXIES
    proxy_header: str | None = None
    proxy_groups_header: str = "x-forwarded-groups"
    proxy_grants: tuple[Grant, ...] = ()
    local_reading: bool = False
    others: bool = False  # people are known by OpenID Connect or a proxy, with no account here

    def first_run(self, *, accounts: bool) -> bool:
        """Tell whether nobody can be known yet."""
        return not accounts and not self.others


class Known:
    """Knows who asks; ``server.api.access.Visitors``."""

    def __init__(
        self,
        *,
        rules: Rules,
        sessions: Sessions,
        tokens: Tokens,
        accounts: Callable[[], bool],
        tenants: Callable[[], list[str]],
    ) -> None:
        self._rules = rules
        self._session = Lookup(sessions.live)
        self._token = Lookup(tokens.live)
        self._facts = Lookup(lambda _: (accounts(), tenants()))
        self._own_key = secrets.token_hex()
        self.sessions_seen: dict[str, int] = {}
        self.tokens_seen: dict[str, int] = {}
        self._ways: tuple[Callable[[Request], Visitor | None], ...] = (
            self._by_token,
            self._by_proxy,
            self._by_session,
            self._by_nothing,
        )

    async def of(self, request: Request) -> Visitor:
        """As ``Visitors``; raises ``StateError`` too."""
        for way in self._ways:
            visitor = way(request)
            if visitor is not None:
                return self._looking(request, visitor)
        raise not_known(remedy=NO_ACCOUNT if self.first_run() else "")

    def first_run(self) -> bool:
        """Tell whether nobody can be known yet: no account, and no other way to be known."""
        return self._rules.first_run(accounts=self._look()[0])

    def tenants(self) -> list[str]:
        """Name the tenants."""
        return self._look()[1]

    def forget(self) -> None:
        """Look everything up again: something was changed."""
        for lookup in (self._session, self._token, self._facts):
            lookup.forget()

    def _look(self) -> tuple[bool, list[str]]:
        found = self._facts("")
        assert found is not None  # the lookup always finds these
        return found

    def _by_token(self, request: Request) -> Visitor | None:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None  # a proxy's own, perhaps
        hash_ = hashed(secret.strip()[:LONGEST_SECRET])
        token = self._token(hash_)
        if token is None:
            raise not_known(
                "The access token is not known, was revoked or has expired",
                remedy="make another on the server: pathgrade server access-token NAME --data DIR",
            )
        self.tokens_seen[hash_] = now_us()
        return _of_token(token)

    def _by_proxy(self, request: Request) -> Visitor | None:
        rules = self._rules
        if rules.proxy_header is None or not rules.proxies.has(peer_of(request)):
            return None
        name = said_name(request.headers, rules.proxy_header)
        if name is None:
            return None
        grant = _grant(rules, said_groups(request.headers, rules.proxy_groups_header), name)
        return Visitor(
            name=f"proxy:{name}",
            tenant=_first_look(grant.home),
            home=grant.home,
            scopes=SCOPES[grant.role],
            csrf_key=csrf_key(f"{self._own_key} {name}"),
        )

    def _by_session(self, request: Request) -> Visitor | None:
        secret = request.cookies.get(COOKIE, "")[:LONGEST_SECRET]
        live = self._session(hashed(secret)) if secret else None
        if live is None:
            return None
        self.sessions_seen[live.hash] = now_us()
        return _of_session(live, secret)

    def _by_nothing(self, request: Request) -> Visitor | None:
        if not (self._rules.local_reading or self.first_run()) or not is_local(request):
            return None
        return Visitor(name="local", tenant=DEFAULT_TENANT, scopes=frozenset({Scope.READ}), known=False)

    def _looking(self, request: Request, visitor: Visitor) -> Visitor:
        """Turn to the tenant that is asked for; raises ``ProblemError`` (403, 404)."""
        if visitor.everywhere and len(self.tenants()) > 1:
            visitor = replace(visitor, tenants=tuple(self.tenants()))
        if visitor.tenant not in self.tenants():  # a role in the settings may name one that there is not
            raise ProblemError(
                403,
                f"{visitor.name} is of the tenant {visitor.tenant!r}, which there is not",
                remedy=f"pathgrade server tenant add {visitor.tenant} --data DIR",
            )
        asked = request.query_params.get("tenant", visitor.tenant)
        if asked == visitor.tenant:
            return visitor
        if not visitor.everywhere:
            raise ProblemError(
                403, "That tenant is not yours to see", remedy=f"leave out tenant: yours is {visitor.tenant}"
            )
        if asked not in self.tenants():
            known = ", ".join(self.tenants())
            raise ProblemError(404, f"no tenant is called {asked!r}", remedy=f"one of: {known}")
        return replace(visitor, tenant=asked)


def _of_token(token: AccessToken) -> Visitor:
    return Visitor(
        name=f"token:{token.name}",
        tenant=_first_look(token.tenant),
        home=token.tenant,
        scopes=SCOPES[token.scope],
    )


def _of_session(live: Live, secret: str) -> Visitor:
    return Visitor(
        name=actor_of(live.name, live.origin),
        tenant=live.looking_at if live.home == ALL_TENANTS else live.home,
        home=live.home,
        scopes=SCOPES[live.role] | {Scope.SELF},
        session=live.hash,
        csrf_key=csrf_key(secret),
    )


def _first_look(home: str) -> str:
    return DEFAULT_TENANT if home == ALL_TENANTS else home


def _grant(rules: Rules, groups: Sequence[str], name: str) -> Grant:
    try:
        found = granted(rules.proxy_grants, groups)
    except AmbiguousError as error:
        raise ProblemError(403, f"{name}: {error}", remedy="change the groups, or proxy_roles") from error
    if found is None:
        raise ProblemError(
            403, f"{name} has no role here", remedy="ask an admin to map one of your groups in proxy_roles"
        )
    return found
