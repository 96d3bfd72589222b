"""Who is told of alerts: the receivers file (setting ``alerts``), read and checked. Secrets are in files.

::

    link = "https://pathgrade.example.org"    # where people find the page of alerts

    [receivers.oncall]
    kind = "webhook"
    url = "https://oncall.example.org/pathgrade"
    secret_file = "/etc/pathgrade/webhook-secret"
    least = "warning"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from server.alerts.matching import matches
from server.alerts.model import Alert, Matcher, Severity
from server.alerts.rules import read_toml
from server.database import DEFAULT_TENANT
from server.errors import SettingsError

MOST_RECEIVERS: Final = 50
MOST_SECRET: Final = 4_096
LEAST_SECRET: Final = 16
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_HERE: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_MAILBOX: Final = re.compile(r"[^\s@<>,;]+@[^\s@<>,;]+\Z")

Seconds = Annotated[float, msgspec.Meta(gt=0, le=300)]


class _Receiver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    tenant: str = DEFAULT_TENANT  # whose alerts; a receiver is of one tenant
    least: Severity = Severity.WARNING  # told from this severity on
    match: Matcher = Matcher()  # told of these only
    timeout_s: Seconds = 10.0  # for one attempt
    give_up_h: Annotated[int, msgspec.Meta(ge=1, le=168)] = (
        24  # then an alert that does not arrive is dropped
    )

    def wants(self, alert: Alert) -> bool:
        """Whether an alert is for this receiver."""
        return alert.severity.rank >= self.least.rank and matches(self.match, alert)


class _Http(_Receiver, frozen=True, kw_only=True, forbid_unknown_fields=True):
    proxy: str | None = None  # http://HOST:PORT; the environment is not asked
    ca_file: Path | None = None  # certificate authority of its server; none = the system's


class Webhook(_Http, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="webhook"):
    """POST of the event as JSON, signed."""

    url: str
    secret_file: Path


class Alertmanager(_Http, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="alertmanager"):
    """Prometheus Alertmanager, API v2."""

    url: str  # its base, as in http://127.0.0.1:9093
    labels: dict[str, str] = {}  # beside our own
    token_file: Path | None = None  # sent as a bearer token


class Slack(_Http, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="slack"):
    """An incoming webhook of Slack, or of what is compatible (Mattermost, Rocket.Chat, Zulip)."""

    url_file: Path  # the URL is the secret


class Email(_Receiver, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="email"):
    """SMTP."""

    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 25
    sender: str
    to: Annotated[list[str], msgspec.Meta(min_length=1, max_length=50)]
    starttls: bool = False  # encrypt, or do not send
    ca_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None


Receiver = Webhook | Alertmanager | Slack | Email


class AlertsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    link: str = ""  # of the report, as people reach it; empty: messages carry no link
    receivers: Annotated[dict[str, Receiver], msgspec.Meta(max_length=MOST_RECEIVERS)] = {}


def of_nobody(config: AlertsConfig, tenants: Collection[str]) -> list[str]:
    """Say which receivers are told of nothing, as there is no tenant of the name they give."""
    return [
        f"receiver {name} is told of nothing: no tenant is called {receiver.tenant!r}"
        for name, receiver in config.receivers.items()
        if receiver.tenant not in tenants
    ]


NO_RECEIVERS: Final = AlertsConfig()


def load_receivers(path: Path | None) -> AlertsConfig:
    """Read and check the receivers file; raises ``SettingsError`` that names the key."""
    if path is None:
        return NO_RECEIVERS
    config = read_toml(path, AlertsConfig)
    if config.link:
        _check_url(f"{path}: link", config.link)
    for name, receiver in config.receivers.items():
        if not _NAME.match(name):
            raise SettingsError(f"{path}: receivers.{name}: not a name", remedy="letters, digits, - _ and .")
        _CHECKS[type(receiver)](f"{path}: receivers.{name}", receiver)
    return config


def read_secret(path: Path, *, least: int = 1) -> str:
    """Read one line of a secret; raises ``SettingsError``, which never holds it."""
    try:
        with path.open() as file:
            secret = file.read(MOST_SECRET + 1).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise SettingsError(f"read the secret {path}: {why}", remedy="name a readable file") from error
    if not least <= len(secret) <= MOST_SECRET or not secret.isprintable():
        raise SettingsError(
            f"read the secret {path}: not one line of at least {least} characters",
            remedy="openssl rand -hex 32 makes a good one",
        )
    return secret


def _check_webhook(where: str, receiver: Webhook) -> None:
    _check_url(f"{where}.url", receiver.url)
    read_secret(receiver.secret_file, least=LEAST_SECRET)


def _check_alertmanager(where: str, receiver: Alertmanager) -> None:
    _check_url(f"{where}.url", receiver.url)
    if receiver.token_file is not None:
        read_secret(receiver.token_file)
    for name in receiver.labels:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise SettingsError(
                f"{where}.labels: {name!r} is not a label's name", remedy="letters, digits and _"
            )


def _check_slack(where: str, receiver: Slack) -> None:
    _check_url(f"{where}.url_file", read_secret(receiver.url_file), secret=True)


def _check_email(where: str, receiver: Email) -> None:
    for address in (receiver.sender, *receiver.to):
        if not _MAILBOX.match(address) or not address.isprintable():
            raise SettingsError(f"{where}: {address!r} is not an address", remedy="NAME@DOMAIN")
    if (receiver.user is None) is not (receiver.password_file is None):
        raise SettingsError(f"{where}: user and password_file go together", remedy="name both, or neither")
    if receiver.password_file is not None:
        read_secret(receiver.password_file)
        if not receiver.starttls and receiver.host not in _HERE:
            raise SettingsError(
                f"{where}: the password would go to {receiver.host} unencrypted", remedy="starttls = true"
            )


_CHECKS: Final[dict[type[Receiver], Callable[..., None]]] = {
    Webhook: _check_webhook,
    Alertmanager: _check_alertmanager,
    Slack: _check_slack,
    Email: _check_email,
}


def _check_url(where: str, url: str, *, secret: bool = False) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and url.isprintable()
    except ValueError:  # a bracket without its other half
        good = False
    if not good:
        shown = "what it holds" if secret else repr(url)
        raise SettingsError(f"{where}: {shown} is not a URL", remedy="http://HOST... or https://HOST...")
