"""The STUN and TURN servers that a test may use, with short-lived TURN credentials.

coturn's ``use-auth-secret`` (draft-uberti-behave-turn-rest-00): the username is ``expiry:agent``, the
password is base64(HMAC-SHA1(secret, username)). coturn needs no account and this server keeps none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from analytics.measurement import Rung
from analytics.wire import IceServer

LIFETIME_S: Final = 3600
"""Longer than any test, so that clocks a few minutes apart do not matter; short, so that a leak ages."""

DIRECT_RUNGS: Final = (Rung.LAN, Rung.IPV6, Rung.SRFLX)
RELAY_RUNGS: Final[dict[tuple[str, str], Rung]] = {
    ("turn", "udp"): Rung.RELAY_UDP,
    ("turn", "tcp"): Rung.RELAY_TCP,
    ("turns", "tcp"): Rung.RELAY_TLS,
}
"""Scheme and transport of a TURN URL -> the rung it serves. TURN over DTLS (``turns``, ``udp``) is none."""


@dataclass(frozen=True, slots=True)
class Relays:
    """The TURN servers of an installation, and the secret shared with them."""

    urls: tuple[str, ...] = ()
    secret: str | None = None

    def rungs(self) -> list[Rung]:
        """The ladder that can be climbed here."""
        served = {_rung(url) for base in self.urls for url in with_transports(base)}
        return [*DIRECT_RUNGS, *(rung for rung in RELAY_RUNGS.values() if rung in served)]

    def ice_servers(self, agent: str, now_s: int) -> list[IceServer]:
        """List the TURN servers with a fresh credential for ``agent``."""
        if self.secret is None:
            return []
        username, password = credential(self.secret, agent, now_s + LIFETIME_S)
        return [
            IceServer(url=url, username=username, credential=password)
            for base in self.urls
            for url in with_transports(base)
        ]


def credential(secret: str, agent: str, expires_s: int) -> tuple[str, str]:
    """Make the username and password that coturn accepts from ``agent`` until ``expires_s``."""
    username = f"{expires_s}:{agent}"
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return username, base64.b64encode(digest).decode()


def with_transports(url: str) -> Sequence[str]:
    """Name the transport of a TURN URL; one that names none is offered over all that its scheme knows."""
    if "?transport=" in url:
        return (url,)
    scheme = url.partition(":")[0]
    return tuple(f"{url}?transport={transport}" for known, transport in RELAY_RUNGS if known == scheme)


def _rung(url: str) -> Rung | None:
    return RELAY_RUNGS.get((url.partition(":")[0], url.partition("?transport=")[2]))
