"""New certificates for agents that hold their identity key, and whose certificates to take at all.

``GET /v1/authority`` is how an agent that has a token, or a server's key, finds the authority; nothing in it
is secret. ``GET`` and ``POST /v1/renewal``: a challenge, and a certificate for who signs it. A laptop that
was off for a month, and whose certificate is long over, comes back so without a token.

Challenges are not remembered: each says when it was given, under a key of this process. One that is used
twice makes the same agent another certificate over the same key.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import struct
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from fastapi import APIRouter, Request, Response

from analytics.clock import now_us
from analytics.errors import UNREADABLE, MessageError, SealError
from analytics.trust import verifying_key
from analytics.wire import (
    AuthorityReply,
    ChallengeReply,
    RenewalReply,
    RenewalRequest,
    renewal_claim,
)
from server.agent_rows import Agent
from server.api.access import public
from server.authority import Authority
from server.credentials import revoked
from server.errors import ChallengeOverError, CredentialError
from server.grants import Signer
from server.ingest import read_body
from server.state import State

MAX_BODY: Final = 4 * 1024
CHALLENGE_US: Final = 60_000_000
"""For the answer to a challenge."""
REFUSED: Final = "renewal"
"""What refused renewals are counted under."""
_DATED: Final = struct.Struct("!Q16s")


class Issuer:
    """Makes agents' certificates."""

    def __init__(
        self,
        state: State,
        authority: Authority,
        *,
        life_s: int,
        moved_to: AuthorityReply | None = None,
        refused: Counter[str] | None = None,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._moved_to = moved_to  # what is told with each renewal where there was another authority before
        self._state = state
        self._authority = authority
        self._key = secrets.token_bytes(32)
        self._clock = clock
        self._refused = Counter[str]() if refused is None else refused
        self.life_s = life_s

    def certificate(self, agent: Agent) -> bytes:
        """Say that an enrolled agent's key is its own, in DER."""
        now = datetime.fromtimestamp(self._clock() // 1_000_000, UTC)
        life = timedelta(seconds=self.life_s)
        made = self._authority.agent_certificate(
            agent.tenant, agent.name, agent.identity_key, life=life, now=now
        )
        self._state.certified(agent, until_us=self._clock() + self.life_s * 1_000_000)
        return made

    def challenge(self) -> bytes:
        """Make something that a holder of a key is to sign now."""
        body = _DATED.pack(self._clock(), secrets.token_bytes(16))
        return body + self._seal(body)

    def renew(self, asked: RenewalRequest) -> RenewalReply:
        """Make a new certificate for who proves to hold the enrolled key; raises ``CredentialError``."""
        try:
            agent = self._proven(asked)
        except CredentialError:
            self._refused[REFUSED] += 1
            raise
        return RenewalReply(certificate=self.certificate(agent), life_s=self.life_s, authority=self._moved_to)

    def _proven(self, asked: RenewalRequest) -> Agent:
        self._check_challenge(asked.challenge)
        agent = self._state.agent(asked.tenant, asked.name)
        claim = renewal_claim(asked.tenant, asked.name, asked.challenge)
        if agent is None or not is_by(agent.identity_key, asked.signature, claim):
            raise CredentialError(
                f"no agent {asked.name!r} with this key is enrolled",
                remedy="enrol again: give the agent a new token (pathgrade server token)",
            )
        if self._state.is_revoked(agent.tenant, agent.name):
            raise revoked(agent.name)
        return agent

    def _check_challenge(self, challenge: bytes) -> None:
        body, seal = challenge[: _DATED.size], challenge[_DATED.size :]
        good = len(body) == _DATED.size and hmac.compare_digest(seal, self._seal(body))
        if not good or not 0 <= self._clock() - _DATED.unpack(body)[0] < CHALLENGE_US:
            raise ChallengeOverError(
                "the challenge is not of now", remedy="ask for another, and answer at once"
            )

    def _seal(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()


def vouched(authority: Authority, signer: Signer) -> AuthorityReply:
    """Say whose certificates to take, and whose they were before."""
    return AuthorityReply(
        certificate=authority.der,
        signature=signer.authority(authority.der),
        former=[one.certificate for one in authority.former],
    )


def router(issuer: Issuer, known: AuthorityReply) -> APIRouter:
    """Build the routes; ``known`` is what is told of the authority."""
    routes = APIRouter(prefix="/v1")

    @routes.get("/authority", dependencies=[public("certificates are no secrets")])
    async def whose() -> Response:
        return _json(known)

    @routes.get("/renewal", dependencies=[public("who answers the challenge proves to be an agent")])
    async def challenge() -> Response:
        return _json(ChallengeReply(challenge=issuer.challenge()))

    @routes.post("/renewal", dependencies=[public("the proof is in the body")])
    async def renew(request: Request) -> Response:
        asked = _decode(await read_body(request, MAX_BODY))
        return _json(await asyncio.to_thread(issuer.renew, asked))

    return routes


def is_by(key: bytes, signature: bytes, claim: bytes) -> bool:
    """Check an Ed25519 signature; by an agent without an identity key is none."""
    try:
        verifying_key(key).verify(signature, claim)
    except (InvalidSignature, SealError):
        return False
    return True


def _json(reply: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(reply), media_type="application/json")


def _decode(body: bytes) -> RenewalRequest:
    try:
        return msgspec.json.decode(body, type=RenewalRequest)
    except UNREADABLE as error:
        raise MessageError(
            f"not a renewal: {error}", remedy="see analytics/wire.py, RenewalRequest"
        ) from error
