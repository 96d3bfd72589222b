"""What an agent sends to be let in, made with a key of its own; and how it connects from then on."""

import base64
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent import tls
from agent.identity import Identity, create
from analytics.channel import EnrolToken
from analytics.wire import EnrolReply, enrolment_claim
from server.authority import Authority

UNKNOWN_TOKEN = f"pgt1.{'unknown-' * 5}.{'A' * 43}"
"""Of the form of one."""


@dataclass(frozen=True)
class Member:
    """An enrolled agent; ``context`` is the TLS that it connects with."""

    name: str
    tenant: str
    identity: Identity
    reply: EnrolReply
    context: ssl.SSLContext


def enrolment(
    token: str, name: str, site: str = "here", *, identity: Identity | None = None
) -> dict[str, Any]:
    """Return the body of ``POST /v1/enrol``, as JSON values. ``token`` is what people are given."""
    identity = identity or create(name)
    secret = EnrolToken.parse(token).secret
    claim = enrolment_claim(secret, name)
    return {
        "token": secret,
        "name": name,
        "site": site,
        "certificate": base64.b64encode(identity.certificate_der).decode(),
        "signature": base64.b64encode(identity.sign(claim)).decode(),
        "identity_key": base64.b64encode(identity.public_key).decode(),
        "identity_signature": base64.b64encode(identity.identity_key.sign(claim)).decode(),
    }


def nobodys(data: Path) -> ssl.SSLContext:
    """Return the TLS of somebody without a certificate who trusts the server with this data folder."""
    return tls.proven(Authority.open(data).der)


def member_of(data: Path, identity: Identity, answer: bytes) -> Member:
    """Read the answer to an enrolment."""
    reply = msgspec.json.decode(answer, type=EnrolReply)
    context = nobodys(data)
    identity.identity_key.present(context, reply.certificate)
    return Member(reply.agent, reply.tenant, identity, reply, context)
