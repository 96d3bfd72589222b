"""The policy as it is asked for and told; ``server.policies`` provides the door."""

from __future__ import annotations

from typing import Protocol

import msgspec

from analytics.policy import Policy, PolicyRules, Ruling


class PolicyCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy says of a pair at a moment."""

    src: str
    dst: str
    at_us: int
    version: int  # of the policy
    ruling: Ruling
    says: str  # the same in words
    tests_lately: int  # of the pair in the last hour, where its rule counts them


class PolicyDoor(Protocol):
    """What the routes need of the server. Raises ``DemandError``."""

    def policy(self) -> Policy:
        """Tell the policy in force."""

    def set_policy(self, asked: PolicyRules, version: int, *, actor: str) -> Policy:
        """Set rules in place of those of a version, with effect at once.

        Raises ``PolicyError`` and ``PolicyChangedError``.
        """

    def check(self, src: str, dst: str, at_us: int | None) -> PolicyCheck:
        """Say whether two agents may test each other, and by which rule; None: now."""


def etag_of(policy: Policy) -> str:
    """Name a version of a policy."""
    return f'"policy-{policy.version}"'
