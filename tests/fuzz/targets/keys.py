"""Keys and fingerprints as text: in configuration, anchors files, orders and reports."""

from __future__ import annotations

from collections.abc import Iterator

from shaped import chosen, either

from analytics.errors import SealError
from analytics.trust import fingerprint_bytes, key_bytes, key_text

ALLOWED = (SealError,)


def target(data: bytes) -> object:
    return either(data, _key, _fingerprint, lambda body: _key(b"ed25519:" + body))


def _key(data: bytes) -> None:
    text = data.decode("utf-8", "surrogatepass") if data.isascii() else data.decode("utf-8", "replace")
    assert key_text(key_bytes(text)) == text


def _fingerprint(data: bytes) -> None:
    assert len(fingerprint_bytes(data.decode("utf-8", "replace"))) == 32


def seeds() -> Iterator[bytes]:
    yield chosen(0, key_text(bytes(range(32))).encode())
    yield chosen(2, key_text(bytes(32)).removeprefix("ed25519:").encode())
    yield chosen(1, bytes(range(32)).hex(":").upper().encode())
