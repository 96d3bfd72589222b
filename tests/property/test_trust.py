"""What is signed: one encoding each, and one flipped bit anywhere is refused."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from analytics.errors import SealError
from analytics.trust import (
    Binding,
    Grant,
    ServerTime,
    fingerprint_bytes,
    key_bytes,
    key_text,
    seal,
    unseal,
)

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()

TEXTS = st.text(max_size=60)
NUMBERS = st.integers(0, 2**63 - 1)
PRINTS = st.binary(min_size=32, max_size=32)
NONCES = st.binary(min_size=16, max_size=16)
BINDINGS = st.builds(Binding, tenant=TEXTS, agent=TEXTS, fingerprint=PRINTS, until_s=NUMBERS)
GRANTS = st.builds(
    Grant,
    tenant=TEXTS,
    test=TEXTS,
    cycle=NUMBERS,
    src=TEXTS,
    dst=TEXTS,
    src_fingerprint=PRINTS,
    dst_fingerprint=PRINTS,
    issued_us=NUMBERS,
    expires_us=NUMBERS,
    nonce=NONCES,
    most_probes=NUMBERS,
    most_bytes=NUMBERS,
    most_s=NUMBERS,
    src_site=TEXTS,
    dst_site=TEXTS,
    rule=TEXTS,
)
TIMES = st.builds(ServerTime, challenge=NONCES, now_us=NUMBERS)
BODIES = st.one_of(BINDINGS, GRANTS, TIMES)


@given(BODIES)
def test_what_is_signed_comes_back_as_it_went(body: Binding | Grant | ServerTime) -> None:
    sealed = seal(body.encode(), KEY)
    assert type(body).decode(unseal(sealed, PUBLIC)) == body


@given(BODIES, st.data())
def test_one_flipped_bit_anywhere_is_refused(body: Binding | Grant | ServerTime, data: st.DataObject) -> None:
    sealed = bytearray(seal(body.encode(), KEY))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        unseal(bytes(sealed), PUBLIC)


def test_every_single_bit_of_one_grant_is_refused() -> None:
    grant = Grant(
        tenant="default",
        test="t1",
        cycle=1,
        src="a",
        dst="b",
        src_fingerprint=bytes(32),
        dst_fingerprint=bytes(range(32)),
        issued_us=1,
        expires_us=2,
        nonce=bytes(16),
        most_probes=300,
        most_bytes=400_000,
        most_s=60,
        src_site="here",
        dst_site="there",
        rule="r1",
    )
    sealed = seal(grant.encode(), KEY)
    for bit in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealError):
            unseal(bytes(flipped), PUBLIC)


@given(st.binary(max_size=300))
def test_anything_else_is_one_clear_error(noise: bytes) -> None:
    with pytest.raises(SealError):
        unseal(noise, PUBLIC)
    for kind in (Binding, Grant, ServerTime):
        with pytest.raises(SealError):
            kind.decode(noise)


@given(BODIES, st.binary(min_size=1, max_size=20), st.integers(1, 20))
def test_a_body_has_one_encoding_only(body: Binding | Grant | ServerTime, more: bytes, less: int) -> None:
    """Signed by the right key and still not the body: longer, shorter, of another kind."""
    for wrong in (body.encode() + more, body.encode()[:-less]):
        with pytest.raises(SealError):
            type(body).decode(wrong)
    for kind in (Binding, Grant, ServerTime):
        if kind is not type(body):
            with pytest.raises(SealError):
                kind.decode(body.encode())


@given(st.binary(max_size=200))
def test_whatever_reads_is_written_the_same(tail: bytes) -> None:
    """No two encodings of one body: what decodes at all encodes to the same bytes."""
    for kind, head in ((Binding, b"PGbind\0\1"), (Grant, b"PGgrnt\0\2"), (ServerTime, b"PGtime\0\1")):
        try:
            read = kind.decode(head + tail)
        except SealError:
            continue
        assert read.encode() == head + tail


@given(st.binary(min_size=32, max_size=32))
def test_keys_and_fingerprints_are_written_one_way_only(raw: bytes) -> None:
    text = key_text(raw)
    assert key_bytes(text) == raw
    assert fingerprint_bytes(raw.hex(":").upper()) == raw
    for wrong in (text + "=", text[:-1], text.removeprefix("ed25519:"), text + "\n", "rsa:" + text):
        with pytest.raises(SealError):
            key_bytes(wrong)


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": bytes(31)},
        {"fingerprint": bytes(33)},
        {"until_s": -1},
        {"until_s": 2**63},
        {"agent": "x" * 256},
    ],
)
def test_what_does_not_fit_is_not_signed(changes: dict[str, object]) -> None:
    given_ = {"tenant": "t", "agent": "a", "fingerprint": bytes(32), "until_s": 1} | changes
    with pytest.raises(SealError):
        Binding(**given_).encode()  # type: ignore[arg-type]  # wrong on purpose


def test_another_key_or_none_is_refused() -> None:
    sealed = seal(b"body", KEY)
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    for key in (other, b"", bytes(31), bytes(32)):
        with pytest.raises(SealError):
            unseal(sealed, key)
