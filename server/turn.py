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

TRANSPORTS: Final = ("udp", "tcp")

DIRECT_RUNGS: Final = (Rung.LAN, Rung.IPV6, Rung.SRFLX)
RELAY_RUNGS: Final = (Rung.RELAY_UDP, Rung.RELAY_TCP)


@dataclass(frozen=True, slots=True)
class Relays:
    """The TURN servers of an installation, and the secret shared with them."""

    urls: tuple[str, ...] = ()
    secret: str | None = None

    def rungs(self) -> list[Rung]:
        """The ladder that can be climbed here."""
        return [*DIRECT_RUNGS, *(RELAY_RUNGS if self.urls else ())]

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
    """Name the transport of a TURN URL; one that names none is offered over both."""
    if "?transport=" in url:
        return (url,)
    return tuple(f"{url}?transport={transport}" for transport in TRANSPORTS)
