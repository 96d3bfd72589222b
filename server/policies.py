"""Where people set a tenant's policy: checked, kept, put to work at once, audited.

It provides ``server.api.policies.PolicyDoor``. What rules mean is in ``analytics.policy``.
"""

from __future__ import annotations

from collections.abc import Callable

from analytics.clock import now_us
from analytics.policy import Policy, PolicyRules, check
from server.api.policy_door import PolicyCheck
from server.audit import Audit
from server.cycles import Cycles
from server.errors import DemandError
from server.policing import says
from server.schedule import Pair
from server.state import State


class Policies:
    """Everything on the event loop, but for the state's small writes."""

    def __init__(
        self,
        state: State,
        tenant: str,
        *,
        cycles: Cycles,
        audit: Audit,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._state = state
        self._tenant = tenant
        self._cycles = cycles
        self._audit = audit
        self._clock = clock
        cycles.policing.policy = state.policies.read(tenant)

    def policy(self) -> Policy:
        """As ``PolicyDoor``."""
        return self._cycles.policing.policy

    def set_policy(self, asked: PolicyRules, version: int, *, actor: str) -> Policy:
        """As ``PolicyDoor``."""
        check(asked.rules)
        made = self._state.policies.write(
            self._tenant, asked.rules, version=version, by=actor, at_us=self._clock()
        )
        self._audit.policy(actor, version=made.version, rules=[rule.id for rule in made.rules])
        self._cycles.policing.policy = made
        self._cycles.enforce()
        return made

    def check(self, src: str, dst: str, at_us: int | None) -> PolicyCheck:
        """As ``PolicyDoor``."""
        known = {agent.name for agent in self._state.agents(self._tenant)}
        for name in (src, dst):
            if name not in known:
                raise DemandError(f"no agent is called {name!r}", remedy="pathgrade agents names them")
        if src == dst:
            raise DemandError("an agent has no path to itself", remedy="name two agents")
        policing = self._cycles.policing
        ruling = policing.judged(at_us).of(src, dst)
        return PolicyCheck(
            src=src,
            dst=dst,
            at_us=self._clock() if at_us is None else at_us,
            version=policing.policy.version,
            ruling=ruling,
            says=f"{src} and {dst} {says(ruling)}",
            tests_lately=policing.counted(Pair(*sorted((src, dst)))),
        )
