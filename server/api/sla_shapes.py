"""What both sides of ``/v1/sla`` know: the headers, and how the key is told."""

from __future__ import annotations

from typing import Final

import msgspec

SIGNATURE: Final = "Pathgrade-Signature"
"""Header with the signature over the very bytes of the body, base64."""
KEY: Final = "Pathgrade-Key"
"""Header with the public key, as ``SlaKey`` has it."""


class SlaKey(msgspec.Struct, frozen=True, kw_only=True):
    """The public half of the key that reports are signed with."""

    key: str  # "ed25519:" and base64
    algorithm: str = "Ed25519"
