"""The agent's configuration: one TOML file, read into frozen structs.

::

    server = "https://192.0.2.10:8440"
    token_file = "/etc/pathgrade/token"
    name = "pacs"
    site = "hospital"
    label = "the PACS"
    data = "/var/lib/pathgrade-agent"

    [[services]]
    name = "PACS"
    profile = "pacs"
    port = 4242
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from agent.errors import ConfigError
from agent.limits import Limits
from agent.own_policy import OwnRules, check
from analytics.errors import PolicyError
from analytics.measurement import named, text
from analytics.wire import ServiceOffer

MAX_FILE: Final = 64 * 1024
MAX_TOKEN: Final = 200

USER_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_.-]*\Z"

_HOST: Final = re.compile(r"^[A-Za-z0-9._:-]+\Z")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One agent."""

    server: str
    """URL of the server's agent listener."""
    name: Annotated[str, named("this agent")]
    site: Annotated[str, named("site this host stands in")]
    data: Path
    """Folder of its identity, its credential and what the server has not acknowledged yet."""
    label: Annotated[str, text("what people call it", most=60)] = ""
    token: str | None = None
    """Enrolment token, needed once; or ``token_file``."""
    token_file: Path | None = None
    """File with the enrolment token."""
    cache: Path | None = None
    """Folder of compiled eBPF programs; agents may share one. Default: ``cache`` under ``data``."""
    services: Annotated[list[ServiceOffer], msgspec.Meta(max_length=16)] = []
    """What people open on this host, see below."""
    passive: Literal["auto", "ebpf", "inet_diag", "off"] = "auto"
    """How TCP sessions of this host are watched. ``auto``: by eBPF, else by polling, with a warning that says
    what is missed and why. ``ebpf``: by eBPF, or refuse to run. ``inet_diag``: by polling. ``off``: not."""
    namespaces: Literal["own", "all"] = "own"
    """Whose sessions: of the agent's own network namespace, or of all (containers too)."""
    recent_minutes: Annotated[int, msgspec.Meta(ge=1, le=60)] = 10
    """How long a closed session can be looked at with ``pathgrade flows`` on this host."""
    realtime: bool = False
    """Whether the agent runs before ordinary processes: at the lowest real-time priority, milliseconds at a
    time. For hosts whose CPUs are all busy for seconds, where it would lose (and count) sessions; where CPUs
    are few it also runs before the kernel's own network threads, and packet trains arrive in bunches."""
    mesh: bool = True
    """Whether this agent takes part in active tests."""
    train_mb_an_hour: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 100
    """Megabytes that this agent's packet trains may take in any 60 minutes, all its peers together (one test
    takes up to 0.19). What does not fit is not sent: the capacity is not measured then, and the reading says
    so."""
    limit_cpu_bp: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 2_500
    """CPU time that the whole agent may take over a minute, in 1/100 of a percent of one core; 0 = as much as
    it needs. Above this limit, or one of the next two, the agent leaves out packet trains, then active tests,
    then the detail of passive capture, tells the server which and why, and comes back (`docs/limits.md`)."""
    limit_rss_mb: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 192
    """Megabytes of memory that it may take; 0 = as many as it needs."""
    limit_mb_an_hour: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 250
    """Megabytes that it may send in any 60 minutes, tests and batches together; 0 = as many as it needs."""
    quoted_headers: bool = False
    """Whether an agent started with CAP_NET_RAW keeps a raw ICMP socket after giving that up. With it, the
    hop at which DSCP or ECN is changed is named; without, only that it is changed on the way."""
    turn_ca: Path | None = None
    """File with the certificate authority of the TURN servers (``turns:``). Default: the system's own."""
    identity_anchors: Path | None = None
    """File with identity keys of peers, brought here by a way that is trusted: each line is
    `name = "ed25519:..."`, as `pathgrade agent identity` prints it on that host. A peer named in it must have
    that key; any other is pinned when it is first met. `docs/security.md` says what the difference is."""
    policy: OwnRules = OwnRules()
    """What this host itself allows, whatever the server orders, see below."""
    user: Annotated[str, msgspec.Meta(pattern=USER_PATTERN, max_length=32)] = "pathgrade"
    """Account that an agent started by root becomes, once eBPF is loaded. Where there is no such account: a
    number that no account has. Started by any other user, the agent stays that user."""

    @property
    def cache_folder(self) -> Path:
        """Where compiled eBPF programs are kept."""
        return self.cache or self.data / "cache"

    @property
    def limits(self) -> Limits:
        """What the whole agent may take."""
        return Limits(self.limit_cpu_bp, self.limit_rss_mb * 1_000, self.limit_mb_an_hour * 1_000_000)

    def with_token(self) -> Config:
        """Read the token now, while this process may: without root it may not.

        One that cannot be read is missed only where it is needed, at the enrolment.
        """
        with contextlib.suppress(ConfigError):
            return msgspec.structs.replace(self, token=self.enrolment_token(), token_file=None)
        return self

    def enrolment_token(self) -> str | None:
        """Read the token, from the file if one is named; None if none is set. Raises ``ConfigError``."""
        if self.token_file is None:
            return self.token
        return _read(self.token_file, MAX_TOKEN + 1).strip()


def load(path: Path) -> Config:
    """Read a configuration; raises ``ConfigError`` with the key and the file."""
    try:
        config = msgspec.convert(tomllib.loads(_read(path, MAX_FILE)), Config, dec_hook=_convert)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(
            f"read {path}: {error}", remedy="correct the TOML; docs/config.md has a sample"
        ) from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"read {path}: {_say(error)}", remedy="docs/config.md lists every key") from error
    _check_server(path, config.server)
    try:
        check(config.policy)
    except PolicyError as error:
        raise ConfigError(f"read {path}: {error}", remedy=error.remedy) from error
    if config.token is not None and config.token_file is not None:
        raise ConfigError(f"read {path}: token and token_file are both set", remedy="keep one of them")
    return config


def _read(path: Path, most: int) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(most)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"read {path}: {why}", remedy="name a readable text file") from error


def _convert(kind: type, value: object) -> object:
    """Read the one type TOML does not know."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"Expected `{kind.__name__}`, got {value!r}")


def _say(error: msgspec.ValidationError) -> str:
    """Put the key first: 'services[0].port: Expected ...'."""
    what, _, where = str(error).partition(" - at `$")
    key = where.rstrip("`").lstrip(".")
    return f"{key}: {what}" if key else what


def _check_server(path: Path, url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme == "https" and _HOST.match(parts.hostname or "") and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or parts.path not in ("", "/") or parts.query or parts.username:
        raise ConfigError(
            f"read {path}: server: {url!r} is not https://HOST:PORT",
            remedy='server = "https://192.0.2.10:8440"; agents of before 0.8 said http://',
        )
