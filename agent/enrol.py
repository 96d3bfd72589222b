"""Getting in: a token once, a credential from then on (``credential.json`` in the data folder)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from agent import durable
from agent.config import Config
from agent.errors import EnrolmentError, FolderError, ServerSilentError
from agent.http import httpx
from agent.identity import Identity
from agent.retry import StateLine, backoff_s
from analytics.errors import UNREADABLE
from analytics.wire import EnrolReply, EnrolRequest, enrolment_claim

log: Final = logging.getLogger("pathgrade.agent.enrol")

FILE_NAME: Final = "credential.json"
TIMEOUT_S: Final = 10.0


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """What lets this agent in, and where."""

    version: int = 1
    server: str
    agent: str
    tenant: str
    secret: str
    server_key: bytes = b""
    """The server's public key: orders signed by another are refused. Empty where servers had none then."""


class Problem(msgspec.Struct, frozen=True):
    """The server's word for what went wrong (problem+json); all of it may be missing."""

    title: str = ""
    detail: str = ""
    remedy: str = ""


async def enrolled(
    config: Config,
    identity: Identity,
    client: httpx.AsyncClient,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Credential:
    """Read the credential, or enrol for one, however long the server takes to be there.

    Raises ``EnrolmentError`` if the server refuses, ``FolderError`` if the credential cannot be kept.
    """
    known = read_credential(config)
    if known is not None:
        return known
    line = StateLine(log)
    attempt = 0
    while True:
        try:
            credential = await _enrol(config, identity, client)
        except ServerSilentError as error:
            line.say(f"not enrolled server={config.server} why={str(error)!r}", level=logging.WARNING)
            await sleep(backoff_s(attempt))
            attempt += 1
        else:
            keep(config, credential)
            line.say(f"enrolled server={config.server} agent={credential.agent}")
            return credential


def read_credential(config: Config) -> Credential | None:
    """Read the kept credential; None if there is none for this server and name."""
    try:
        data = _path(config).read_bytes()
        known = msgspec.json.decode(data, type=Credential)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as error:
        raise FolderError(
            f"read {_path(config)}: {error}", remedy="remove it and enrol again with a new token"
        ) from error
    return known if (known.server, known.agent) == (config.server, config.name) else None


def forget(config: Config) -> None:
    """Remove a credential that the server no longer takes."""
    _path(config).unlink(missing_ok=True)


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


async def _enrol(config: Config, identity: Identity, client: httpx.AsyncClient) -> Credential:
    body = msgspec.json.encode(_request(config, identity))
    try:
        response = await client.post("/v1/enrol", content=body, timeout=TIMEOUT_S)
    except httpx.TransportError as error:
        raise ServerSilentError(f"{type(error).__name__}: {error}") from error
    if response.status_code >= 500:
        raise ServerSilentError(explain(problem_in(response)))
    if response.status_code != 200:
        problem = problem_in(response)
        raise EnrolmentError(f"enrol at {config.server}: {explain(problem)}", remedy=problem.remedy)
    return _credential(config, response)


def _request(config: Config, identity: Identity) -> EnrolRequest:
    token = config.enrolment_token()
    if not token:
        raise EnrolmentError(
            f"enrol at {config.server}: no token",
            remedy="pathgrade server token makes one; put it in token_file or token",
        )
    claim = enrolment_claim(token, config.name)
    return EnrolRequest(
        token=token,
        name=config.name,
        site=config.site,
        label=config.label,
        services=config.services,
        certificate=identity.certificate_der,
        signature=identity.sign(claim),
        identity_key=identity.public_key,
        identity_signature=identity.identity_key.sign(claim),
    )


def _credential(config: Config, response: httpx.Response) -> Credential:
    try:
        reply = msgspec.json.decode(response.content, type=EnrolReply)
    except UNREADABLE as error:
        raise EnrolmentError(
            f"enrol at {config.server}: it does not answer as a pathgrade server: {error}",
            remedy="set server to the agent listener of the pathgrade server",
        ) from error
    return Credential(
        server=config.server,
        agent=reply.agent,
        tenant=reply.tenant,
        secret=reply.secret,
        server_key=reply.server_key,
    )


def keep(config: Config, credential: Credential) -> None:
    """Write the credential, all of it or nothing; raises ``FolderError``."""
    try:
        durable.replace(_path(config), msgspec.json.encode(credential))
    except OSError as error:
        raise FolderError(
            f"write {_path(config)}: {error.strerror}",
            remedy="make the agent's data folder writable for its user",
        ) from error


def _path(config: Config) -> Path:
    return config.data / FILE_NAME
