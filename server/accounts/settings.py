"""What an operator may set about who people are: a part of ``server.settings.Settings``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

from server.accounts.mapping import Grant
from server.accounts.proxies import Network, network
from server.errors import SettingsError
from server.secret_file import OIDC_SECRET

RETURN_PATH: Final = "/login/oidc/return"
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


def _each(parse: Callable[[object], Any]) -> Callable[[object], object]:
    """Read each part of a list, given as one or as comma-separated text; raises ``ValueError``."""

    def read(value: object) -> object:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        return tuple(map(parse, value)) if isinstance(value, list | tuple) else value

    return read


def _url(value: object) -> str:
    parts = urlsplit(str(value))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{value!r} is not http://HOST or https://HOST")
    return str(value)


def _issuer(value: object) -> str:
    parts = urlsplit(_url(value))
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise ValueError(f"{value!r} is not https: anybody on the way could log in as anybody")
    return str(value)


Url = Annotated[str, BeforeValidator(_url)]
Issuer = Annotated[str, BeforeValidator(_issuer)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_each(network))]
Grants = Annotated[tuple[Grant, ...], NoDecode, BeforeValidator(_each(Grant.parse))]
Header = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcClient:
    """What this server is at an OpenID Connect provider, and what the provider's people are here."""

    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    public_url: str
    scope: str
    name_claim: str
    groups_claim: str
    grants: tuple[Grant, ...]

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends people back to; it must know it."""
        return self.public_url.rstrip("/") + RETURN_PATH


class AccountSettings(BaseSettings):
    """Who is known how, and for how long."""

    public_url: Url | None = None
    """The URL by which people reach the pages, as `https://pathgrade.example.org`, behind a proxy."""
    session_hours: int = Field(default=12, ge=1, le=720)
    """Hours after which everybody logs in again."""
    session_idle_minutes: int = Field(default=120, ge=5, le=43_200)
    """Minutes without a request after which a session ends. An open page that renews itself is in use."""
    local_reading: bool = False
    """Whether anybody on the server's own host may read without an account, as for a screen on the wall.
    Before there is an account, they may. Nothing can be changed without one."""
    proxies: Networks = ()
    """Addresses or networks of proxies that are believed when they say by `X-Forwarded-For` who asks."""
    proxy_header: Header | None = None
    """Header in which those proxies say whom they have logged in, as `X-Forwarded-User`. They must take it
    out of what others send."""
    proxy_groups_header: Header = "X-Forwarded-Groups"
    """Header with that person's groups, separated by commas."""
    proxy_roles: Grants = ()
    """What those groups are here: `GROUP=ROLE` or `GROUP=ROLE@TENANT`, as `netops=operator, *=viewer`; `@*`
    is all tenants."""
    oidc_issuer: Issuer | None = None
    """OpenID Connect provider, as `https://login.example.org/realms/hospital`; needs `public_url`."""
    oidc_client_id: str | None = None
    """What this server is called there; its redirect URI is `<public_url>/login/oidc/return`."""
    oidc_client_secret_file: Path | None = None
    """File with the secret that the provider gave it; none for a public client."""
    oidc_scope: str = "openid profile email"
    """Scopes that are asked for."""
    oidc_name_claim: str = "preferred_username"
    """Claim of the ID token that names the person in the audit log."""
    oidc_groups_claim: str = "groups"
    """Claim of the ID token with the person's groups."""
    oidc_roles: Grants = ()
    """What those groups are here, as in `proxy_roles`."""

    def oidc_client(self) -> OidcClient | None:
        """What this server is at a provider; None where none is set. Raises ``SettingsError``."""
        if self.oidc_issuer is None:
            return None
        if self.public_url is None or self.oidc_client_id is None or not self.oidc_roles:
            raise SettingsError(
                "oidc_issuer is set without public_url, oidc_client_id or oidc_roles",
                remedy="set all of them; docs/accounts.md has an example",
            )
        secret_file = self.oidc_client_secret_file
        return OidcClient(
            issuer=self.oidc_issuer,
            client_id=self.oidc_client_id,
            client_secret=OIDC_SECRET.read(secret_file) if secret_file is not None else None,
            public_url=self.public_url,
            scope=self.oidc_scope,
            name_claim=self.oidc_name_claim,
            groups_claim=self.oidc_groups_claim,
            grants=self.oidc_roles,
        )
