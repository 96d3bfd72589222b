"""Signatures of the fuzz targets' own, without their price: what is fuzzed is what reads what was signed.

To make and check an Ed25519 signature takes longer than all that is done with it. A ``Signer`` makes a keyed
hash instead, which nobody else can, and ``known`` lets it hold. Of any other signature the real key judges,
as in the product.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from analytics import receipts, trust


class Signer:
    """Signs as an ``Ed25519PrivateKey`` does, where ``known`` says so."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.public = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return blake2b(data, key=self._secret, digest_size=trust.SIGNATURE_BYTES).digest()


class _Known:
    """The public key of a signer."""

    def __init__(self, signer: Signer, key: Ed25519PublicKey) -> None:
        self._signer = signer
        self._key = key

    def verify(self, signature: bytes, data: bytes) -> None:
        if not hmac.compare_digest(signature, self._signer.sign(data)):
            self._key.verify(signature, data)


@contextmanager
def known(*signers: Signer) -> Iterator[None]:
    """Let what these signed hold."""
    real, by_key = trust.verifying_key, {signer.public: signer for signer in signers}

    def verifying_key(key: bytes) -> Ed25519PublicKey | _Known:
        found, signer = real(key), by_key.get(key)
        return found if signer is None else _Known(signer, found)

    trust.verifying_key = receipts.verifying_key = verifying_key
    try:
        yield
    finally:
        trust.verifying_key = receipts.verifying_key = real
