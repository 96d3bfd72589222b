"""Which STUN or TURN server serves a rung, and what a connection must be told to use it.

A TURN server over TLS is verified as any other: its certificate must name the host of the URL and lead to the
system's authorities, or to the one the operator named (``turn_ca``).
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from agent.errors import RungError
from analytics.measurement import Rung
from analytics.wire import IceServer

RESOLVE_S: Final = 1.5
DEFAULT_PORT: Final = {"stun": 3478, "turn": 3478, "turns": 5349}


@dataclass(frozen=True, slots=True)
class Means:
    """What an end gathers its candidates with."""

    servers: Sequence[IceServer] = ()
    addresses: Sequence[str] | None = None  # local ones to use; None: all but loopback
    turn_ca: Path | None = None  # authority of the TURN servers' certificates; None: the system's
    not_asked: Mapping[Rung | None, str] = field(default_factory=dict)  # rung of a relay; None: STUN


async def options(rung: Rung, means: Means) -> dict[str, Any]:
    """The server that an ICE connection must be told to use for ``rung``, if any. Raises ``RungError``."""
    return await (_relay_options(rung, means) if rung.relayed else _direct_options(means))


async def _direct_options(means: Means) -> dict[str, Any]:
    stun = next((server for server in means.servers if server.url.startswith("stun:")), None)
    return _nothing(None, means) if stun is None else {"stun_server": await resolved(stun.url)}


async def _relay_options(rung: Rung, means: Means) -> dict[str, Any]:
    server = next((server for server in means.servers if relay_rung(server.url) is rung), None)
    if server is None:
        return _nothing(rung, means)
    return {
        # By name where a certificate has to match it.
        "turn_server": named(server.url) if rung is Rung.RELAY_TLS else await resolved(server.url),
        "turn_username": server.username,
        "turn_password": server.credential,
        "turn_transport": "udp" if rung is Rung.RELAY_UDP else "tcp",
        "turn_ssl": tls_context(means.turn_ca) if rung is Rung.RELAY_TLS else None,
    }


def _nothing(kind: Rung | None, means: Means) -> dict[str, Any]:
    """No server was named, or one that is not asked. Raises ``RungError``, so that both ends hear why."""
    if why := means.not_asked.get(kind):
        raise RungError(why)
    return {}


def relay_rung(url: str) -> Rung | None:
    """The rung a TURN server (RFC 7065) serves; None for STUN."""
    parts = urlsplit(url)
    if parts.scheme == "turns":
        return Rung.RELAY_TLS
    if parts.scheme != "turn":
        return None
    return Rung.RELAY_TCP if parse_qs(parts.query).get("transport") == ["tcp"] else Rung.RELAY_UDP


@functools.lru_cache(maxsize=4)
def tls_context(authority: Path | None) -> ssl.SSLContext:
    """What a TURN server's certificate is verified with. Raises ``RungError``."""
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:  # ssl.SSLError is one
        raise RungError(f"cannot read turn_ca {authority}: {error.strerror or error}") from error


def named(url: str) -> tuple[str, int]:
    """Host and port of a STUN or TURN URL. Raises ``ValueError``."""
    scheme, _, rest = url.partition(":")
    parts = urlsplit(f"//{rest}")
    default = DEFAULT_PORT.get(scheme.lower())
    if default is None:
        raise ValueError("neither STUN nor TURN")
    return parts.hostname or "", parts.port or default


async def resolved(url: str) -> tuple[str, int]:
    """Numeric address of a STUN or TURN URL. Raises ``RungError``."""
    try:
        host, port = named(url)
    except ValueError as error:
        raise RungError(f"{url[:80]!r} names no server: {error}") from error
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, family=socket.AF_INET)
    except (OSError, TimeoutError, UnicodeError) as error:  # the last: a label that no name may have
        raise RungError(f"cannot resolve {host}: {error or 'timeout'}") from error
    return str(found[0][4][0]), port
