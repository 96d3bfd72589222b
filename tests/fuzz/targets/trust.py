"""What is signed between agents and server: bindings, grants, times; by the target, to reach the body."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from shaped import chosen, either

from analytics.errors import SealError
from analytics.trust import Binding, Grant, ServerTime, seal, unseal

ALLOWED = (SealError,)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
KINDS = (Binding, Grant, ServerTime)


def target(data: bytes) -> object:
    return either(data, *(lambda body, kind=kind: _decoded(kind, body) for kind in KINDS), _sealed, _unsealed)


def _decoded(kind, body: bytes) -> None:
    """There is one encoding only: what is read is written back the same."""
    assert kind.decode(body).encode() == body


def _sealed(body: bytes) -> None:
    _decoded(KINDS[len(body) % len(KINDS)], unseal(seal(body, KEY), PUBLIC))


def _unsealed(data: bytes) -> None:
    """Nobody signs by chance: what passes is what was signed."""
    body = unseal(data[32:], data[:32])
    raise AssertionError(f"a signature was forged over {body!r}")


def examples() -> list[bytes]:
    binding = Binding(tenant="default", agent="pacs", fingerprint=bytes(32), until_s=1_800_000_000)
    grant = Grant(
        tenant="default",
        test="t1",
        cycle=7,
        src="ws-1",
        dst="pacs",
        src_fingerprint=bytes(32),
        dst_fingerprint=bytes(range(32)),
        issued_us=1_764_000_000_000_000,
        expires_us=1_764_000_060_000_000,
        nonce=bytes(16),
        most_probes=10_000,
        most_bytes=10_000_000,
        most_s=300,
        src_site="hospital",
        dst_site="clinic",
        rule="",
    )
    return [binding.encode(), grant.encode(), ServerTime(challenge=bytes(16), now_us=1).encode()]


def seeds() -> Iterator[bytes]:
    for way, body in enumerate(examples()):
        yield chosen(way, body)
        yield chosen(3, body)
        yield chosen(4, PUBLIC + seal(body, KEY)[:-1] + b"\0")
