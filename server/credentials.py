"""Whose request is this: the agent of the certificate that its connection presented.

The chain was checked in the handshake (``server.agent_tls``). Here: is it in force, is the agent enrolled
with this very key, and not revoked. Judged with each request, as a connection may last longer than all that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from analytics.clock import now_us
from server.agent_rows import Agent
from server.agent_tls import PRESENTED, Presented
from server.errors import CertificateOverError, CredentialError
from server.state import State

NONE: Final = "no certificate"
OVER: Final = "certificate over"
UNKNOWN: Final = "unknown"
REVOKED: Final = "revoked"
STALE_FROM: Final = 0.75
"""Of a certificate's life: it is renewed at half of it; who still shows it has an old connection."""


class Gate:
    """Lets agents in; who is not is counted in ``refused`` by why."""

    def __init__(
        self, state: State, *, refused: Counter[str] | None = None, clock: Callable[[], int] = now_us
    ) -> None:
        self._state = state
        self._clock = clock
        self.refused = Counter[str]() if refused is None else refused

    def agent(self, scope: Mapping[str, Any]) -> Agent:
        """Find the agent behind a request; raises ``CredentialError``."""
        shown = shown_by(scope)
        if shown is None:
            raise self._no(
                NONE, CredentialError("no certificate", remedy="enrol: pathgrade server token makes a token")
            )
        if not shown.since_us <= self._clock() < shown.until_us:
            raise self._no(OVER, CertificateOverError("the certificate is not in force", remedy="renew it"))
        agent = self._state.agent(shown.tenant, shown.name)
        if agent is None or agent.identity_key != shown.key:
            raise self._no(
                UNKNOWN,
                CredentialError(
                    f"no agent {shown.name!r} with this key is enrolled",
                    remedy="enrol again: give the agent a new token (pathgrade server token)",
                ),
            )
        self._require_not_revoked(agent)
        return agent

    def knows(self, shown: Presented) -> bool:
        """Say whether a certificate is of an agent that would be let in now; counts nothing."""
        agent = self._state.agent(shown.tenant, shown.name)
        is_its_own = agent is not None and agent.identity_key == shown.key
        in_force = shown.since_us <= self._clock() < shown.until_us
        return in_force and is_its_own and not self._state.is_revoked(shown.tenant, shown.name)

    def _require_not_revoked(self, agent: Agent) -> None:
        if self._state.is_revoked(agent.tenant, agent.name):
            raise self._no(REVOKED, revoked(agent.name))

    def is_stale(self, scope: Mapping[str, Any]) -> bool:
        """Say whether a connection shows a certificate that was to be renewed long ago."""
        shown = shown_by(scope)
        if shown is None:
            return False
        return self._clock() > shown.since_us + STALE_FROM * (shown.until_us - shown.since_us)

    def _no(self, why: str, error: CredentialError) -> CredentialError:
        self.refused[why] += 1
        return error


def shown_by(scope: Mapping[str, Any]) -> Presented | None:
    """Tell what the connection of an ASGI scope presented."""
    shown: Presented | None = scope.get("state", {}).get(PRESENTED)
    return shown


def revoked(name: str) -> CredentialError:
    """Say that an agent was revoked."""
    return CredentialError(
        f"agent {name!r} was revoked",
        remedy=f"if it is to come back: pathgrade server token --data DIR --replaces {name}",
    )
