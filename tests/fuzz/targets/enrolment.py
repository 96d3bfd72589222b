"""Requests to enrol: JSON, a certificate in DER, signatures (server/enrolment.py)."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import msgspec
from shaped import chosen, either

from agent import identity
from analytics.errors import MessageError
from analytics.wire import EnrolRequest, enrolment_claim
from server.enrolment import _decode, check_identity, proven_fingerprint

ALLOWED = (MessageError,)
SHORT_RUNS = 120
TOKEN = "a-token-of-a-test"


def target(data: bytes) -> object:
    return either(data, _request, _certificate, _signature)


def _request(data: bytes) -> None:
    _proven(_decode(data))


def _proven(request: EnrolRequest) -> None:
    assert len(proven_fingerprint(request)) == 95
    check_identity(request)


def _certificate(data: bytes) -> None:
    _proven(msgspec.structs.replace(_good(), certificate=data[:2000]))


def _signature(data: bytes) -> None:
    _proven(msgspec.structs.replace(_good(), signature=data))
    assert data == _good().signature or len(data) > 60


@functools.cache
def _good() -> EnrolRequest:
    me = identity.create("pacs")
    claim = enrolment_claim(TOKEN, "pacs")
    return EnrolRequest(
        token=TOKEN, name="pacs", site="hospital", services=[], certificate=me.certificate_der,
        signature=me.sign(claim), identity_key=me.public_key, identity_signature=me.identity_key.sign(claim),
    )  # fmt: skip


def seeds() -> Iterator[bytes]:
    yield chosen(0, msgspec.json.encode(_good()))
    yield chosen(1, _good().certificate)
    yield chosen(2, _good().signature)
    yield chosen(0, b'{"token":"t","x":' + b"[" * 50 + b"]" * 50 + b"}")
