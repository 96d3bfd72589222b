"""Certificates that come over TLS, tokens, proofs for a renewal: whoever answers may send anything."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from shaped import chosen, either

from agent import tls
from agent.errors import ServerSilentError
from analytics.channel import EnrolToken, agent_uri, named_by, pin_of
from analytics.errors import MessageError, SealError
from analytics.trust import check_authority
from analytics.wire import RenewalRequest
from server import authority, renewal
from server.agent_tls import read

ALLOWED = (ServerSilentError, MessageError, SealError)
SHORT_RUNS = 120
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw()
WEAK = bytes(32)


def target(data: bytes) -> object:
    return either(data, _authority, _agent, _token, _uri, _renewal, _weak)


def _authority(der: bytes) -> None:
    """What a server that is not proven yet says its authority is: it must be the one that the token names."""
    tls.check_pin(der, pin_of(_own().certificate))
    tls.proven(der)


def _agent(der: bytes) -> None:
    found = read(der)
    assert named_by(agent_uri(found.tenant, found.name)) == (found.tenant, found.name)


def _token(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert str(EnrolToken.parse(text)) == text


def _uri(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert agent_uri(*named_by(text)) == text


def _renewal(data: bytes) -> None:
    asked = renewal._decode(data)
    assert not renewal.is_by(KEY, asked.signature, b"a claim")
    assert not renewal.is_by(WEAK, asked.signature, b"a claim")


def _weak(signature: bytes) -> None:
    """A key of small order vouches for nothing."""
    check_authority(b"a certificate", 0, signature, WEAK)
    raise AssertionError("vouched for by a key that proves nothing")


@functools.cache
def _own() -> authority.Authority:
    return authority.create()


def seeds() -> Iterator[bytes]:
    yield chosen(0, _own().der)
    life, now = timedelta(days=1), datetime(2026, 11, 25, tzinfo=UTC)
    yield chosen(1, _own().agent_certificate("default", "pacs", KEY, life=life, now=now))
    yield chosen(2, f"pgt1.a-secret-for-once.{pin_of(_own().certificate)}".encode())
    yield chosen(3, agent_uri("default", "pacs").encode())
    yield chosen(
        4,
        msgspec.json.encode(
            RenewalRequest(
                tenant="default", name="pacs", challenge=bytes(56), knows="p" * 43, signature=bytes(64)
            )
        ),
    )
    yield chosen(5, b"\1" + bytes(63))
