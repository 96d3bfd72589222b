"""Access tokens of programs: told once, kept as a hash, with a scope, a tenant, and perhaps an end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import sqlalchemy as sa

from analytics.clock import now_us
from server.accounts.roles import AccountName, Home, TokenScope, is_within
from server.accounts.rows import audited, changing, check_home, hashed, new_secret, reading
from server.api.access import ALL_TENANTS
from server.api.audits import COMMAND
from server.database import ACCESS_TOKENS, DEFAULT_TENANT, connect, make_folder
from server.errors import DemandError
from server.state import FILE_NAME

PREFIX: Final = "pga-"
DAY_US: Final = 86_400_000_000


class AccessToken(msgspec.Struct, frozen=True, kw_only=True):
    """One token, as it is told: without the secret."""

    name: AccountName
    tenant: Home
    scope: TokenScope
    made_by: str
    made_us: int
    expires_us: int | None
    seen_us: int | None  # last used; null: never


class NewToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/access-tokens``."""

    name: AccountName
    scope: TokenScope = TokenScope.READ
    tenant: Home = DEFAULT_TENANT
    days: Annotated[int, msgspec.Meta(ge=1, le=3_650)] | None = None  # None: until it is revoked


class MadeToken(msgspec.Struct, frozen=True, kw_only=True):
    """A new token: its secret is told now and never again."""

    token: str
    about: AccessToken


class Tokens:
    """The tokens in one state file."""

    def __init__(self, engine: sa.Engine, *, clock: Callable[[], int] = now_us) -> None:
        self._engine = engine
        self._clock = clock

    def add(
        self, new: NewToken, *, by: str, within: str = ALL_TENANTS, expires_us: int | None = None
    ) -> MadeToken:
        """Make a token; raises ``DemandError``."""
        if not is_within(within, new.tenant):
            raise DemandError(f"tokens of {new.tenant!r} are not yours to make", remedy=f"tenant {within!r}")
        secret, at_us = new_secret(PREFIX), self._clock()
        token = AccessToken(
            name=new.name,
            tenant=new.tenant,
            scope=new.scope,
            made_by=by,
            made_us=at_us,
            expires_us=expires_us if new.days is None else at_us + new.days * DAY_US,
            seen_us=None,
        )
        with changing(self._engine) as connection:
            check_home(connection, new.tenant)
            if connection.execute(sa.select(ACCESS_TOKENS).where(_is(new.tenant, new.name))).one_or_none():
                raise DemandError(
                    f"a token is called {new.name!r} already", remedy="revoke it, or choose another name"
                )
            values = {**msgspec.structs.asdict(token), "hash": hashed(secret)}
            connection.execute(ACCESS_TOKENS.insert().values(values))
            _said(connection, token, by, f"made scope={new.scope}")
        return MadeToken(token=secret, about=token)

    def all(self, within: str = ALL_TENANTS) -> list[AccessToken]:
        """List the tokens, by tenant and name."""
        wanted = sa.select(ACCESS_TOKENS).order_by(ACCESS_TOKENS.c.tenant, ACCESS_TOKENS.c.name)
        with reading(self._engine) as connection:
            found = [_token(row) for row in connection.execute(wanted)]
        return [token for token in found if is_within(within, token.tenant)]

    def live(self, hash_: str) -> AccessToken | None:
        """Find a token that holds: not revoked, not expired."""
        with reading(self._engine) as connection:
            row = connection.execute(
                sa.select(ACCESS_TOKENS).where(ACCESS_TOKENS.c.hash == hash_)
            ).one_or_none()
        if row is None or (row.expires_us is not None and row.expires_us <= self._clock()):
            return None
        return _token(row)

    def revoke(self, tenant: str, name: str, *, by: str, within: str = ALL_TENANTS) -> None:
        """End a token; raises ``DemandError``."""
        with changing(self._engine) as connection:
            row = connection.execute(sa.select(ACCESS_TOKENS).where(_is(tenant, name))).one_or_none()
            if row is None or not is_within(within, tenant):
                raise DemandError(
                    f"no token is called {name!r}",
                    remedy="pathgrade server access-token --list --data DIR lists them",
                )
            connection.execute(ACCESS_TOKENS.delete().where(_is(tenant, name)))
            _said(connection, _token(row), by, "revoked")

    def saw(self, seen_us: dict[str, int]) -> None:
        """Note when tokens were last used."""
        if not seen_us:
            return
        with changing(self._engine) as connection:
            for hash_, at_us in seen_us.items():
                connection.execute(
                    ACCESS_TOKENS.update().where(ACCESS_TOKENS.c.hash == hash_).values(seen_us=at_us)
                )


def create_access_token(
    data: Path,
    name: str,
    *,
    scope: str = TokenScope.READ,
    tenant: str = DEFAULT_TENANT,
    expires_s: int | None = None,
) -> str:
    """Make a token beside a running server, which takes it within a second.

    Raises ``StateError`` and ``DemandError``. The token is told once: only its hash is kept.
    """
    make_folder(data)
    engine = connect(data / FILE_NAME)
    try:
        new = msgspec.convert({"name": name, "scope": scope, "tenant": tenant}, NewToken)
        expires_us = None if expires_s is None else now_us() + expires_s * 1_000_000
        return Tokens(engine).add(new, by=COMMAND, expires_us=expires_us).token
    except msgspec.ValidationError as error:
        raise DemandError(
            f"make a token: {error}", remedy="see pathgrade server access-token --help"
        ) from error
    finally:
        engine.dispose()


def _is(tenant: str, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(ACCESS_TOKENS.c.tenant == tenant, ACCESS_TOKENS.c.name == name)


def _said(connection: sa.Connection, token: AccessToken, by: str, what: str) -> None:
    audited(
        connection,
        home=token.tenant,
        by=by,
        action="access-token",
        subject=f"token:{token.name}",
        detail=what,
    )


def _token(row: sa.Row[Any]) -> AccessToken:
    values = dict(row._mapping)
    values.pop("hash")
    return AccessToken(**{**values, "scope": TokenScope(row.scope)})
