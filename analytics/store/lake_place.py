"""Where a lake is: two settings, checked before anything is opened. Pure.

The catalog is a PostgreSQL database, named as libpq names it; the data is a folder that every server mounts,
or a prefix of an S3 bucket. No secret is part of either: both would end up in logs and process lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Self
from urllib.parse import urlsplit

from analytics.errors import LakeSetupError

SCHEMA: Final = "pathgrade"
"""PostgreSQL schema of the catalog's own tables: the database may serve other things as well."""
PREFIX: Final = "postgres:"
S3: Final = "s3://"

_PAIR: Final = re.compile(r"\s*([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s'\\]*)(?=\s|\Z)")
_BUCKET: Final = re.compile(r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.()-]+)*/?\Z")
_BOUNDS: Final = {
    "connect_timeout": "5",  # s: a host that is gone is said at once
    "tcp_user_timeout": "15000",  # ms: so is one that goes away in the middle
    "application_name": "pathgrade",
}
"""What libpq is told where the setting says nothing of it."""


@dataclass(frozen=True, slots=True)
class LakePlace:
    """A lake: its catalog (libpq keywords) and the root of its data (ends in ``/``)."""

    catalog: str
    data: str

    @classmethod
    def parse(cls, catalog: str, data: str) -> Self:
        """Check both settings; raises ``ValueError`` that says what does not hold."""
        return cls(_catalog(catalog), _data(data))

    @property
    def is_s3(self) -> bool:
        """Whether the data is in a bucket."""
        return self.data.startswith(S3)

    def __str__(self) -> str:
        """As the operator set it."""
        return f"{PREFIX}{self.catalog}"


def _catalog(text: str) -> str:
    if not text.startswith(PREFIX):
        raise ValueError(f"{text!r} does not begin with {PREFIX}")
    told = text.removeprefix(PREFIX).strip()
    pairs = {found[1]: found[2] for found in _PAIR.finditer(told)}
    if _PAIR.sub("", told).strip() or "dbname" not in pairs:
        raise ValueError(f"{text!r} is not {PREFIX}host=... dbname=... user=...")
    if "password" in pairs:
        raise ValueError("a password is read from the file .pgpass or PGPASSFILE, not from here")
    return told


def _data(text: str) -> str:
    if text.startswith(S3):
        if not _BUCKET.match(text):
            raise ValueError(f"{text!r} is not s3://BUCKET/PREFIX")
    elif not PurePosixPath(text).is_absolute():
        raise ValueError(f"{text!r} is neither an absolute path nor s3://BUCKET/PREFIX")
    return text.rstrip("/") + "/"


def connection_of(place: LakePlace) -> str:
    """Name the catalog to libpq, with bounds on how long it may keep one waiting."""
    told = {found[1] for found in _PAIR.finditer(place.catalog)}
    return " ".join((place.catalog, *(f"{key}={value}" for key, value in _BOUNDS.items() if key not in told)))


@dataclass(frozen=True, slots=True)
class Bucket:
    """How to reach an S3 service: what its own tools read from the environment."""

    key: str
    secret: str
    token: str
    region: str
    host: str  # "" = Amazon's own
    tls: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read ``AWS_*``. Raises ``LakeSetupError`` where there is no key, or the endpoint is no URL."""
        key, secret = environment.get("AWS_ACCESS_KEY_ID", ""), environment.get("AWS_SECRET_ACCESS_KEY", "")
        if not key or not secret:
            raise LakeSetupError(
                "the lake's data is in S3 and there is no key to it",
                remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the server's environment",
            )
        endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL", "")
        parts = urlsplit(endpoint)
        if endpoint and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/")):
            raise LakeSetupError(
                f"AWS_ENDPOINT_URL is {endpoint!r}", remedy="write it as https://HOST or http://HOST:PORT"
            )
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
        token = environment.get("AWS_SESSION_TOKEN", "")
        return cls(key, secret, token, region, parts.netloc, parts.scheme != "http")
