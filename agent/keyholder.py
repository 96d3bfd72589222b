"""Who holds the identity key: a file of the data folder, or what else implements ``KeyHolder``.

The rest of the agent asks a holder to sign, and to present a certificate in TLS; it never sees the key. A key
in a TPM or a keyring is another implementation, chosen where ``agent.identity`` reads the file.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from analytics import channel


class KeyHolder(Protocol):
    """An Ed25519 key that can be used, but not seen."""

    @property
    def public_key(self) -> bytes:
        """The public half, 32 bytes."""

    def sign(self, data: bytes, /) -> bytes:
        """Sign with Ed25519 (RFC 8032)."""

    def present(self, context: ssl.SSLContext, certificate: bytes) -> None:
        """Have a TLS context present a certificate (DER) over this key, on new connections."""


@dataclass(frozen=True, slots=True)
class FileKey:
    """A key that was read from a file."""

    key: Ed25519PrivateKey

    @property
    def public_key(self) -> bytes:
        """As ``KeyHolder``."""
        return self.key.public_key().public_bytes_raw()

    def sign(self, data: bytes, /) -> bytes:
        """As ``KeyHolder``."""
        return self.key.sign(data)

    def present(self, context: ssl.SSLContext, certificate: bytes) -> None:
        """As ``KeyHolder``. Raises ``ssl.SSLError`` if the certificate is over another key."""
        channel.present(context, self.pem() + ssl.DER_cert_to_PEM_cert(certificate).encode())

    def pem(self) -> bytes:
        """The key, for its file."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
