"""What agents and server agree on about TLS between them: versions, tokens, names in certificates.

::

    token        pgt1.SECRET.PIN       SECRET is sent to the server once; PIN never leaves the agent
    pin          SHA-256 of the authority's SubjectPublicKeyInfo (as RFC 7469, 2.4), base64url without padding
    agent's URI  pathgrade:agent/TENANT/NAME, the only subjectAltName of an agent's certificate (RFC 5280)
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import ssl
from typing import Final, NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from analytics.errors import MessageError

TOKEN_PREFIX: Final = "pgt1"  # noqa: S105  # names the form of a token
MAX_CERTIFICATE: Final = 4_096
"""DER; ours are below 600 bytes."""
_PIN_LETTERS: Final = 43
_TOKEN: Final = re.compile(rf"{TOKEN_PREFIX}\.([A-Za-z0-9_-]{{8,128}})\.([A-Za-z0-9_-]{{{_PIN_LETTERS}}})\Z")
_URI: Final = re.compile(r"pathgrade:agent/([a-z0-9._-]{1,63})/([a-z0-9._-]{1,63})\Z")


class EnrolToken(NamedTuple):
    """What lets an agent in, and what tells it that the server is the one that made it."""

    secret: str
    pin: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` wrote; raises ``MessageError``, which does not repeat the token."""
        found = _TOKEN.match(text)
        if found is None:
            raise MessageError(
                f"not a token: it is {TOKEN_PREFIX}.SECRET.PIN, in one piece",
                remedy="make one on the server: pathgrade server token --data DIR",
            )
        return cls(found[1], found[2])

    def __str__(self) -> str:
        """As people hand it on."""
        return f"{TOKEN_PREFIX}.{self.secret}.{self.pin}"


def pin_of(authority: x509.Certificate) -> str:
    """Name an authority by its key."""
    spki = authority.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.urlsafe_b64encode(hashlib.sha256(spki).digest()).decode().rstrip("=")


def agent_uri(tenant: str, name: str) -> str:
    """Name an agent in its certificate."""
    return f"pathgrade:agent/{tenant}/{name}"


def named_by(uri: str) -> tuple[str, str]:
    """Read tenant and name from what ``agent_uri`` wrote; raises ``MessageError``."""
    found = _URI.match(uri)
    if found is None:
        raise MessageError("the certificate names no agent")
    return found[1], found[2]


def tls_1_3(protocol: int) -> ssl.SSLContext:
    """Begin a context that speaks TLS 1.3 and nothing else; it trusts nobody yet."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    return context


def trust(context: ssl.SSLContext, authority: bytes) -> None:
    """Take certificates of this authority (DER), and of no other."""
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(authority))


def present(context: ssl.SSLContext, pem: bytes) -> None:
    """Present a certificate with its key from now on, on new connections; the key touches no disk.

    Python's ssl reads files only, and this one is in memory (memfd_create(2)). Raises ``ssl.SSLError``.
    """
    handle = os.memfd_create("pathgrade-tls")
    try:
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
