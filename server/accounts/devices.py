"""Browsers that have logged in to an account before: told by a cookie that stands for no session.

It is signed with what the account's password is checked against, so that a new password ends it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

_NONCE: Final = 16
_LONGEST: Final = 128


def new_device(kept_password: str) -> str:
    """Make a cookie for a browser that has just logged in."""
    nonce = secrets.token_hex(_NONCE)
    return f"{nonce}.{_mac(kept_password, nonce)}"


def device_of(kept_password: str, cookie: str | None) -> str | None:
    """Name the device that a cookie is of; None: of none that this account was logged in from."""
    if not cookie or len(cookie) > _LONGEST:
        return None
    nonce, _, mac = cookie.partition(".")
    right = hmac.compare_digest(mac.encode(), _mac(kept_password, nonce).encode())
    return nonce if right else None


def _mac(kept_password: str, nonce: str) -> str:
    key = hashlib.sha256(b"pathgrade device\0" + kept_password.encode()).digest()
    return hmac.new(key, nonce.encode(), "sha256").hexdigest()
