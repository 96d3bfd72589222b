"""Keeping the certificate in force: renewed at half of its life, while all else goes on, and when refused."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from agent import credential as kept
from agent.config import Config
from agent.credential import Credential
from agent.enrol import renewed
from agent.errors import (
    AuthorityMovedError,
    CredentialRefusedError,
    EnrolmentError,
    FolderError,
    ServerSilentError,
)
from agent.identity import Identity
from agent.retry import StateLine, backoff_s

log: Final = logging.getLogger("pathgrade.agent")

LOOK_S: Final = 60.0
"""Between looks whether the certificate is to be renewed,"""
LOOKS: Final = 40
"""or so many in its life, if that is more."""


class Renewal:
    """The certificate of one session with the server, shown in its TLS context."""

    def __init__(
        self, config: Config, identity: Identity, credential: Credential, context: ssl.SSLContext
    ) -> None:
        self.credential = credential
        self._config = config
        self._identity = identity
        self._context = context
        self._certified = asyncio.Event()  # the certificate is in force, by this host's clock

    async def run(self) -> None:
        """Renew at half of its life; what runs goes on.

        Raises ``CredentialRefusedError``; ``AuthorityMovedError`` once another authority is known and kept.

        Looked at now and then, as a sleep does not count the time that a laptop is shut.
        """
        line, share = StateLine(log), random.uniform(0.4, 0.5)  # noqa: S311  # spreads load
        attempt = 0
        while True:
            try:
                if self.credential.is_due(kept.now_s(), share=share):
                    await self._renew()
                attempt = 0
            except (ServerSilentError, EnrolmentError, FolderError, OSError) as error:
                line.say(f"certificate not renewed, or not kept why={str(error)!r}", level=logging.WARNING)
                attempt += 1
            if not self.credential.is_due(kept.now_s(), share=1.0):
                self._certified.set()
            look_s = min(LOOK_S, self.credential.life_s / LOOKS)
            await asyncio.sleep(backoff_s(attempt) if attempt else look_s)

    async def once_certified(self, talk: Callable[[], Awaitable[None]]) -> None:
        """Talk to the server once there is a certificate that it will take."""
        await self._certified.wait()
        await talk()

    async def _renew(self) -> None:
        now = await renewed(self.credential, self._identity)
        if now.authority != self.credential.authority:
            kept.keep(self._config, now)
            # No context forgets the old one.
            raise AuthorityMovedError("the server's authority is another now")
        self.credential = now
        self.credential.shown_in(self._context, self._identity.identity_key)
        log.info("certificate renewed life_s=%d", self.credential.life_s)
        kept.keep(self._config, self.credential)


async def ask_again(config: Config, identity: Identity) -> None:
    """Renew a credential that was refused, as where the server's clock was set.

    It is forgotten only if the server says that it knows it no more.
    """
    known = kept.read(config)
    try:
        if isinstance(known, Credential):
            return kept.keep(config, await renewed(known, identity))
    except (ServerSilentError, EnrolmentError) as error:
        log.warning("not renewed, and kept why=%r", str(error))
        return None  # it is refused again once a server is there that knows what this is about
    except CredentialRefusedError as error:
        log.warning("enrolling again why=%r", str(error))
    return kept.forget(config)
