"""Passwords: argon2id with the parameters of RFC 9106, section 4 (64 MiB, three passes, four lanes).

A name that nobody has costs the same work as one that somebody has: the time of an answer tells nothing.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from server.errors import DemandError

SHORTEST: Final = 12
LONGEST: Final = 256
FEWEST_LETTERS: Final = 5
REMEDY: Final = f"{SHORTEST} characters or more, such as four words that have nothing to do with one another"


NOBODYS: Final = (  # of random bytes that nobody kept, made with the parameters above
    "$argon2id$v=19$m=65536,t=3,p=4$4KfJJY92no25kFYx2ujYUg$BL6NNcXoVeS3+8k5KAeueF8QXvpU/KJRN1gC7up4ty4"
)


class Passwords:
    """Makes and checks hashes. Each takes 64 MiB and some 0.1 s of a thread that is not the event loop."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)

    def hash(self, password: str) -> str:
        """Hash a password for keeping."""
        return self._hasher.hash(_normal(password))

    def fits(self, kept: str | None, password: str) -> bool:
        """Check a password against a kept hash; of nobody's (None), do the same work and say no."""
        try:
            self._hasher.verify(kept or NOBODYS, _normal(password[: LONGEST + 1]))
        except (VerificationError, InvalidHashError):
            return False
        return kept is not None

    def is_outdated(self, kept: str) -> bool:
        """Tell whether a hash was made with other parameters than new ones are."""
        return self._hasher.check_needs_rehash(kept)


def check_password(password: str, name: str) -> None:
    """Raise ``DemandError`` for a password that is too easily guessed."""
    normal = _normal(password)
    if len(normal) > LONGEST:
        raise DemandError(f"the password is over {LONGEST} characters", remedy=REMEDY)
    if len(normal) < SHORTEST:
        raise DemandError(f"the password is under {SHORTEST} characters", remedy=REMEDY)
    if len(set(normal.lower())) < FEWEST_LETTERS or name.lower() in normal.lower():
        raise DemandError("the password is the name, or few letters over and over", remedy=REMEDY)


def _normal(password: str) -> str:
    """One spelling of each character, whichever keyboard it came from (NFKC, as NIST SP 800-63B-4 asks)."""
    return unicodedata.normalize("NFKC", password)
