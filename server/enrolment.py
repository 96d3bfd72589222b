"""``POST /v1/enrol``: a token and two keys that are proven to be the sender's in, its certificate out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import APIRouter, Request, Response

from analytics.clock import now_us
from analytics.errors import UNREADABLE, MessageError, SealError
from analytics.trust import verifying_key
from analytics.wire import EnrolReply, EnrolRequest, enrolment_claim
from server.accounts.throttle import Throttle, block_of
from server.agent_rows import Agent
from server.api.access import public
from server.errors import NameTakenError, TokenError, TooManyTriesError
from server.ingest import read_body
from server.renewal import Issuer
from server.state import State

log: Final = logging.getLogger("pathgrade.server.enrolment")

MAX_BODY: Final = 16 * 1024
REFUSED: Final = "enrolment"
"""What refused enrolments are counted under: the token was used, is over, or is none; or the name is
another's."""
PUT_OFF: Final = "enrolment throttled"
"""And those that were not even looked at."""
_REMEDY: Final = "enrol with a pathgrade agent of the server's version; see analytics/wire.py, EnrolRequest"


def router(state: State, issuer: Issuer, server_key: bytes, refused: Counter[str] | None = None) -> APIRouter:
    """Build the route; ``server_key`` is the public half of what grants are signed with."""
    counted = Counter[str]() if refused is None else refused
    throttle = Throttle()
    routes = APIRouter(prefix="/v1")

    @routes.post("/enrol", dependencies=[public("the enrolment token is in the body")])
    async def enrol(request: Request) -> Response:
        keys = [("address", block_of(_origin(request)))]
        if (wait_s := throttle.wait_s(keys, time.monotonic())) > 0:
            counted[PUT_OFF] += 1
            raise TooManyTriesError(
                f"too many enrolments from this address failed; the next is looked at in {wait_s:.0f} s",
                remedy="see that every agent there has a token that holds: pathgrade server token",
            )
        try:
            agent = await _enrol(state, request)
        except (TokenError, NameTakenError, MessageError):
            counted[REFUSED] += 1
            throttle.failed(keys, time.monotonic())
            raise
        reply = EnrolReply(
            agent=agent.name,
            tenant=agent.tenant,
            certificate=issuer.certificate(agent),
            life_s=issuer.life_s,
            server_key=server_key,
        )
        return Response(msgspec.json.encode(reply), media_type="application/json")

    return routes


def proven_fingerprint(request: EnrolRequest) -> str:
    """SHA-256 of the certificate (as RFC 8122 section 5), once the sender has shown to hold its key.

    Every peer knows an agent's certificate, so the certificate alone proves nothing. Raises ``MessageError``.
    """
    try:
        certificate = x509.load_der_x509_certificate(request.certificate)
        key = certificate.public_key()
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise MessageError(f"the certificate does not read: {error}", remedy=_REMEDY) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise MessageError("the certificate's key is not an elliptic curve's", remedy=_REMEDY)
    claim = enrolment_claim(request.token, request.name)
    try:
        key.verify(request.signature, claim, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise MessageError("the signature is not by the certificate's key", remedy=_REMEDY) from error
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def check_identity(request: EnrolRequest) -> None:
    """Raise ``MessageError`` unless the sender has shown to hold its identity key."""
    try:
        key = verifying_key(request.identity_key)
        key.verify(request.identity_signature, enrolment_claim(request.token, request.name))
    except (InvalidSignature, SealError) as error:
        raise MessageError("the signature is not by the identity key", remedy=_REMEDY) from error


async def _enrol(state: State, request: Request) -> Agent:
    wanted = _decode(await read_body(request, MAX_BODY))
    origin = _origin(request)
    fingerprint = proven_fingerprint(wanted)
    check_identity(wanted)
    agent = await asyncio.to_thread(
        state.enrol, wanted, fingerprint=fingerprint, at_us=now_us(), origin=origin
    )
    log.info("agent enrolled name=%s site=%s from=%s", agent.name, wanted.site, origin)
    return agent


def _origin(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _decode(body: bytes) -> EnrolRequest:
    try:
        return msgspec.json.decode(body, type=EnrolRequest)
    except UNREADABLE as error:
        raise MessageError(
            f"not an enrolment: {error}", remedy="see analytics/wire.py, EnrolRequest"
        ) from error
