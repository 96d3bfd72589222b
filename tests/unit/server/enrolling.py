"""What an agent sends to be let in, made with a key of its own."""

import base64
from typing import Any

from agent.identity import Identity, create
from analytics.wire import enrolment_claim


def enrolment(
    token: str, name: str, site: str = "here", *, identity: Identity | None = None
) -> dict[str, Any]:
    """Return the body of ``POST /v1/enrol``, as JSON values."""
    identity = identity or create(name)
    claim = enrolment_claim(token, name)
    return {
        "token": token,
        "name": name,
        "site": site,
        "certificate": base64.b64encode(identity.certificate_der).decode(),
        "signature": base64.b64encode(identity.sign(claim)).decode(),
        "identity_key": base64.b64encode(identity.public_key).decode(),
        "identity_signature": base64.b64encode(identity.identity_key.sign(claim)).decode(),
    }
