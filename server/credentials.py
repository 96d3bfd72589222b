"""Whose request is this: the bearer secret that each agent got when it enrolled (RFC 6750)."""

from __future__ import annotations

from collections.abc import Mapping

from server.errors import CredentialError
from server.state import Agent, State


def authenticate(state: State, headers: Mapping[str, str]) -> Agent:
    """Find the agent behind a request; raises ``CredentialError``."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise CredentialError("no credential", remedy="send Authorization: Bearer with the enrolled secret")
    return state.agent_of_secret(secret.strip())
