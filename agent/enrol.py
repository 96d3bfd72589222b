"""Getting in: a token once, then certificates, each renewed at half of its life with the identity key.

::

    token ── GET /v1/authority (any server) ── its pin? ── POST /v1/enrol (that server) ── credential
    credential ── GET, POST /v1/renewal: sign a challenge ── the next one

The token's secret goes only to a server whose authority has the token's pin. Nothing here shows a
certificate: one that is over, however long, is renewed all the same.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from agent import credential as kept
from agent import tls
from agent.config import Config
from agent.credential import Credential, OldCredential
from agent.errors import CredentialRefusedError, EnrolmentError, ServerSilentError, ServerUnprovenError
from agent.http import answer_of, httpx
from agent.identity import Identity
from agent.retry import StateLine, backoff_s
from analytics.channel import EnrolToken
from analytics.errors import UNREADABLE, MessageError, SealError
from analytics.trust import check_authority
from analytics.wire import (
    AuthorityReply,
    ChallengeReply,
    EnrolReply,
    EnrolRequest,
    RenewalReply,
    RenewalRequest,
    enrolment_claim,
    renewal_claim,
)

log: Final = logging.getLogger("pathgrade.agent.enrol")

TIMEOUT_S: Final = 10.0
UNPROVEN_S: Final = 30.0
"""For the whole answer of somebody who may be anyone,"""
MOST_UNPROVEN: Final = 32 * 1024
"""and its bytes: a certificate and a signature are 1 KB."""
TOO_MANY: Final = 429
"""RFC 6585: others at this address failed too often; it is this agent's turn later."""
T = TypeVar("T")


class Problem(msgspec.Struct, frozen=True):
    """The server's word for what went wrong (problem+json); all of it may be missing."""

    title: str = ""
    detail: str = ""
    remedy: str = ""


async def enrolled(
    config: Config,
    identity: Identity,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Credential:
    """Read the credential, or enrol for one, however long the server takes to be there.

    Its certificate may be over: whoever works with it renews it, beside what needs no server. Raises
    ``EnrolmentError`` if the server refuses, ``ServerUnprovenError`` if it is another one, ``FolderError`` if
    the credential cannot be kept.
    """
    known = kept.read(config)
    if isinstance(known, Credential):
        return known
    line = StateLine(log)
    attempt = 0
    while True:
        try:
            credential = await _first(config, identity, known)
        except ServerUnprovenError:
            raise
        except ServerSilentError as error:
            line.say(f"not enrolled server={config.server} why={str(error)!r}", level=logging.WARNING)
            await sleep(backoff_s(attempt))
            attempt += 1
        else:
            kept.keep(config, credential)
            line.say(f"enrolled server={config.server} agent={credential.agent}")
            return credential


async def _first(config: Config, identity: Identity, known: OldCredential | None) -> Credential:
    if known is not None and known.server_key:
        return await _exchanged(config, identity, known)
    return await _enrol(config, identity)


async def renewed(known: Credential, identity: Identity) -> Credential:
    """Get the next certificate. Raises ``ServerSilentError``, ``CredentialRefusedError``."""
    async with _client(known.server, tls.proven(known.authority)) as client:
        challenge = _read(known.server, await _ask(client, "GET", "/v1/renewal"), ChallengeReply).challenge
        asked = RenewalRequest(
            tenant=known.tenant,
            name=known.agent,
            challenge=challenge,
            signature=identity.identity_key.sign(renewal_claim(known.tenant, known.agent, challenge)),
        )
        response = await _ask(client, "POST", "/v1/renewal", asked)
    if response.status_code == 401:
        problem = problem_in(response)
        raise CredentialRefusedError(
            f"renew at {known.server}: {explain(problem)}", remedy=problem.remedy or "give it a new token"
        )
    reply = _read(known.server, response, RenewalReply)
    authority = known.authority if reply.authority is None else await _moved(known, reply.authority)
    return msgspec.structs.replace(
        known, authority=authority, certificate=reply.certificate, life_s=reply.life_s, got_s=kept.now_s()
    )


async def _moved(known: Credential, told: AuthorityReply) -> bytes:
    """Say which authority to take from now on: the one that is told, once it has been seen to hold.

    Who has stolen the authority's key can say what comes next, and not sign it with the key of the grants.
    """
    if told.certificate == known.authority:
        return known.authority
    try:
        check_authority(told.certificate, told.signature, known.server_key)
        async with _client(known.server, tls.proven(told.certificate)) as client:
            _read(known.server, await _ask(client, "GET", "/v1/renewal"), ChallengeReply)
    except (SealError, ServerSilentError, EnrolmentError) as error:
        log.warning("the server's new authority is not taken, and the one before kept why=%r", str(error))
        return known.authority
    return told.certificate


async def _exchanged(config: Config, identity: Identity, old: OldCredential) -> Credential:
    """Come from a bearer secret to a certificate: the server's key, known since then, vouches for it."""
    authority = await _authority(config.server)
    try:
        check_authority(authority.certificate, authority.signature, old.server_key)
    except SealError as error:
        raise ServerUnprovenError(
            f"enrol at {config.server}: {error}",
            remedy=f"if the server was set up anew, remove {kept.path_of(config)} and give the agent a token",
        ) from error
    begun = Credential(
        server=config.server,
        agent=old.agent,
        tenant=old.tenant,
        server_key=old.server_key,
        authority=authority.certificate,
        certificate=b"",
        got_s=0,
        life_s=0,
    )
    return await renewed(begun, identity)


async def _enrol(config: Config, identity: Identity) -> Credential:
    token = _token(config)
    authority = _named(await _authority(config.server), token.pin)
    async with _client(config.server, tls.proven(authority)) as client:
        asked = _request(config, identity, token.secret)
        response = await _ask(client, "POST", "/v1/enrol", asked)
    reply = _read(config.server, response, EnrolReply)
    if reply.agent != config.name:
        raise EnrolmentError(f"enrol at {config.server}: it calls this agent {reply.agent[:63]!r}")
    return Credential(
        server=config.server,
        agent=reply.agent,
        tenant=reply.tenant,
        server_key=reply.server_key,
        authority=authority,
        certificate=reply.certificate,
        got_s=kept.now_s(),
        life_s=reply.life_s,
    )


def _named(told: AuthorityReply, pin: str) -> bytes:
    """Find the authority that a token names: the server's, or one that it had before.

    Raises ``ServerUnprovenError`` if it is none of them. Who only tells of one has no certificate of it.
    """
    for former in told.former:
        with suppress(ServerSilentError):
            tls.check_pin(former, pin)
            return former
    tls.check_pin(told.certificate, pin)
    return told.certificate


async def _authority(server: str) -> AuthorityReply:
    """Ask whoever answers for its authority: to be checked before it is believed.

    It may be anyone, as what a guests' network answers before one has logged in: whatever is no authority is
    for later. Raises ``ServerSilentError``.
    """
    try:
        async with asyncio.timeout(UNPROVEN_S), _client(server, tls.unproven()) as client:
            status, body = await _told_unproven(client, "/v1/authority")
    except (httpx.RequestError, TimeoutError) as error:
        raise ServerSilentError(f"{type(error).__name__}: {error}") from error
    if status != 200:
        raise ServerSilentError(f"HTTP {status} where a pathgrade server tells its authority")
    try:
        return msgspec.json.decode(body, type=AuthorityReply)
    except UNREADABLE as error:
        raise ServerSilentError(f"it does not answer as a pathgrade server: {error}") from error


async def _told_unproven(client: httpx.AsyncClient, path: str) -> tuple[int, bytes]:
    """Take in a short answer as it comes, unpacking nothing; raises ``ServerSilentError`` for a long one."""
    body = b""
    async with client.stream("GET", path, headers={"Accept-Encoding": "identity"}) as response:
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > MOST_UNPROVEN:
                raise ServerSilentError("it does not answer as a pathgrade server: it says too much")
    return response.status_code, body


def problem_in(response: httpx.Response) -> Problem:
    """Read what the server says is wrong; something readable in any case."""
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except UNREADABLE:
        problem = Problem()
    return problem if problem.title else Problem(title=f"HTTP {response.status_code}")


def explain(problem: Problem) -> str:
    """Put a problem into one clause."""
    return f"{problem.title}: {problem.detail}" if problem.detail else problem.title


def _client(server: str, context: ssl.SSLContext) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server, trust_env=False, verify=context, timeout=TIMEOUT_S)


async def _ask(
    client: httpx.AsyncClient, method: str, path: str, body: msgspec.Struct | None = None
) -> httpx.Response:
    content = None if body is None else msgspec.json.encode(body)
    try:
        response = await answer_of(client, method, path, content=content, timeout_s=TIMEOUT_S)
    except httpx.RequestError as error:  # also an answer whose encoding does not hold
        why = f"{type(error).__name__}: {error}"
        if tls.is_unproven(error):
            raise ServerUnprovenError(why, remedy=tls.OTHER_SERVER) from error
        raise ServerSilentError(why) from error
    if response.status_code >= 500 or response.status_code == TOO_MANY:
        raise ServerSilentError(explain(problem_in(response)))
    return response


def _read(server: str, response: httpx.Response, kind: type[T]) -> T:
    """Read an answer; raises ``EnrolmentError`` for a refusal, and for what no server of ours says."""
    if response.status_code != 200:
        problem = problem_in(response)
        raise EnrolmentError(f"enrol at {server}: {explain(problem)}", remedy=problem.remedy)
    try:
        return msgspec.json.decode(response.content, type=kind)
    except UNREADABLE as error:
        raise EnrolmentError(
            f"enrol at {server}: it does not answer as a pathgrade server: {error}",
            remedy="set server to the agent listener of the pathgrade server",
        ) from error


def _token(config: Config) -> EnrolToken:
    text = config.enrolment_token()
    if not text:
        raise EnrolmentError(
            f"enrol at {config.server}: no token",
            remedy="pathgrade server token makes one; put it in token_file or token",
        )
    try:
        return EnrolToken.parse(text)
    except MessageError as error:
        raise EnrolmentError(f"enrol at {config.server}: {error}", remedy=error.remedy) from error


def _request(config: Config, identity: Identity, secret: str) -> EnrolRequest:
    claim = enrolment_claim(secret, config.name)
    return EnrolRequest(
        token=secret,
        name=config.name,
        site=config.site,
        label=config.label,
        services=config.services,
        certificate=identity.certificate_der,
        signature=identity.sign(claim),
        identity_key=identity.public_key,
        identity_signature=identity.identity_key.sign(claim),
    )
