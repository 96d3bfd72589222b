"""The code for making the first account on a page: said in the server's log, where only its owner reads."""

from __future__ import annotations

import base64
import hmac
import secrets
from typing import Final

CODE_BYTES: Final = 15
_GROUP: Final = 6


def new_code() -> str:
    """Draw 120 bits, as letters that can be typed."""
    letters = base64.b32encode(secrets.token_bytes(CODE_BYTES)).decode()
    return "-".join(letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP))


def is_code(code: str, typed: str) -> bool:
    """Compare what was typed, however it was spaced, in constant time."""
    return hmac.compare_digest(_plain(code), _plain(typed))


def _plain(text: str) -> bytes:
    return text.replace("-", "").replace(" ", "").upper().encode()
