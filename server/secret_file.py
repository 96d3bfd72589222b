"""Secrets that the settings name by a file: one word, of some length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server.errors import SettingsError

_MOST: Final = 4_096


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A kind of them: whose the secret is, and how a good one is come by."""

    whose: str
    missing: str
    weak: str
    shortest: int = 16

    def read(self, path: Path) -> str:
        """Read the secret; raises ``SettingsError``."""
        try:
            with path.open() as file:
                secret = file.read(_MOST).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise SettingsError(f"read the {self.whose} {path}: {why}", remedy=self.missing) from error
        if len(secret) < self.shortest or any(letter.isspace() for letter in secret):
            raise SettingsError(
                f"read the {self.whose} {path}: not one word of at least {self.shortest} characters",
                remedy=self.weak,
            )
        return secret


TURN_SECRET: Final = SecretFile(
    "TURN secret",
    "name a readable file with coturn's static-auth-secret",
    "openssl rand -hex 32 makes a good one; coturn needs the same",
)
OIDC_SECRET: Final = SecretFile(
    "OpenID Connect client secret",
    "name a readable file with the secret that the provider gave this server",
    "ask the provider for a longer one",
)
