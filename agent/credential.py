"""What the agent shows, and whom it takes for the server: ``credential.json`` in the data folder.

No secret is in it: the certificate is over the identity key, which is in ``identity.pem``.
"""

from __future__ import annotations

import ssl
import stat
import time
from pathlib import Path
from typing import Final

import msgspec

from agent import durable, tls
from agent.config import Config
from agent.errors import FolderError
from agent.keyholder import KeyHolder
from analytics.errors import UNREADABLE

FILE_NAME: Final = "credential.json"
VERSION: Final = 2
"""1: a bearer secret, over HTTP."""


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """What lets this agent in, and where."""

    version: int = VERSION
    server: str
    agent: str
    tenant: str
    server_key: bytes
    """The server's public key: orders signed by another are refused."""
    authority: bytes
    """Certificate (DER) of the server's authority: a server without one of it is not talked to."""
    authority_number: int = 0
    """As the server's key vouched for it: no authority of a number that is not higher comes in its place."""
    certificate: bytes
    """DER, by that authority, over the identity key."""
    got_s: float
    """When the certificate was got, by this host's clock: its own dates are by the server's."""
    life_s: int
    """How long it is good for from then on."""

    def is_due(self, now_s: float, *, share: float = 0.5) -> bool:
        """Say whether the certificate is to be renewed: at half of its life, or if the clock was set back."""
        return not self.got_s - self.life_s <= now_s < self.got_s + share * self.life_s

    def context(self, holder: KeyHolder) -> ssl.SSLContext:
        """Make the TLS context that shows the certificate. Raises ``AgentError``."""
        context = tls.proven(self.authority)
        self.shown_in(context, holder)
        return context

    def shown_in(self, context: ssl.SSLContext, holder: KeyHolder) -> None:
        """Show the certificate on new connections; raises ``FolderError``."""
        try:
            holder.present(context, self.certificate)
        except ssl.SSLError as error:
            raise FolderError(
                f"use {FILE_NAME}: its certificate is not over the key in identity.pem ({error.reason})",
                remedy=f"restore both from one backup, or remove {FILE_NAME} and enrol with a new token",
            ) from error


class OldCredential(msgspec.Struct, frozen=True, kw_only=True):
    """One of before certificates; an agent with the server's key may have it exchanged for another."""

    agent: str
    tenant: str
    server_key: bytes = b""


def read(config: Config) -> Credential | OldCredential | None:
    """Read the kept credential; None if there is none for this server and name. Raises ``FolderError``."""
    path = path_of(config)
    try:
        _check_mode(path)
        data = path.read_bytes()
        if msgspec.json.decode(data, type=_Head).version < VERSION:
            old = msgspec.json.decode(data, type=OldCredential)
            return old if old.agent == config.name else None
        known = msgspec.json.decode(data, type=Credential)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as error:
        raise FolderError(
            f"read {path}: {error}", remedy="remove it and enrol again with a new token"
        ) from error
    return known if (known.server, known.agent) == (config.server, config.name) else None


def keep(config: Config, credential: Credential) -> None:
    """Write the credential, all of it or nothing; raises ``FolderError``."""
    try:
        durable.replace(path_of(config), msgspec.json.encode(credential))
    except OSError as error:
        raise FolderError(
            f"write {path_of(config)}: {error.strerror}",
            remedy="make the agent's data folder writable for its user",
        ) from error


def forget(config: Config) -> None:
    """Remove a credential that the server no longer takes."""
    path_of(config).unlink(missing_ok=True)


def path_of(config: Config) -> Path:
    """Where it is."""
    return config.data / FILE_NAME


def now_s() -> float:
    """Ask this host's clock, which may be wrong."""
    return time.time()


class _Head(msgspec.Struct):
    version: int = 1


def _check_mode(path: Path) -> None:
    """Refuse one that others may write: whom to take for the server is in it."""
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise FolderError(f"use {path}: others than its owner may use it", remedy=f"chmod 600 {path}")
