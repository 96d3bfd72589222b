"""Signs what a webhook is sent, so that its receiver knows who sent it and when. Pure.

The header is ``Pathgrade-Signature: t=1795464000,v1=<hex>``: HMAC-SHA256 (RFC 2104) with the shared secret
over the time, a dot, and the body's bytes. A receiver refuses what is not signed so, and what is older than
five minutes, so that nothing can be sent again later; ``Pathgrade-Delivery`` is the same for each attempt.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

HEADER: Final = "Pathgrade-Signature"
DELIVERY: Final = "Pathgrade-Delivery"
TOLERANCE_S: Final = 300


def signature(secret: str, body: bytes, at_s: int) -> str:
    """Make the header's value."""
    return f"t={at_s},v1={_digest(secret, body, str(at_s))}"


def verify(secret: str, header: str, body: bytes, now_s: int, *, tolerance_s: int = TOLERANCE_S) -> bool:
    """Whether a header is right for a body, and of now; what a receiver does."""
    said = dict(part.partition("=")[::2] for part in header.split(","))
    at_s = said.get("t", "")
    if not (at_s.isascii() and at_s.isdigit() and len(at_s) < 16) or abs(now_s - int(at_s)) > tolerance_s:
        return False
    return hmac.compare_digest(said.get("v1", "").encode(), _digest(secret, body, at_s).encode())


def _digest(secret: str, body: bytes, at_s: str) -> str:
    return hmac.new(secret.encode(), at_s.encode() + b"." + body, hashlib.sha256).hexdigest()
