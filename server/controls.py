"""Where people switch active tests, tag agents and set budgets: kept, put to work, and audited.

It provides ``server.api.controls.ControlDoor``. What is off and what may be spent decides
``server.control``; this only carries it to where it counts.
"""

from __future__ import annotations

from collections.abc import Callable

from analytics.clock import now_us
from server.agent_rows import Agent
from server.api.controls import (
    MOST_TAGS,
    Allowance,
    BudgetAsk,
    Budgets,
    MeshSwitches,
    Reach,
    SwitchAsk,
    TagsAsk,
)
from server.audit import Audit
from server.control import FLEET, Subject
from server.cycles import Cycles
from server.errors import DemandError
from server.state import State

WHO: dict[Reach, str] = {Reach.FLEET: "the fleet", Reach.SITE: "site", Reach.AGENT: "agent"}


class Controls:
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
        self._kept = state.controls
        self._tenant = tenant
        self._cycles = cycles
        self._audit = audit
        self._clock = clock
        cycles.obey(self._kept.switches(tenant))
        cycles.planner.limits = self._kept.limits(tenant)

    def switches(self) -> MeshSwitches:
        """As ``ControlDoor``."""
        now, agents = self._kept.switches(self._tenant), self._agents()
        return MeshSwitches(
            off=[now.off[subject] for subject in sorted(now.off)],
            agents_off=sum(not now.on(agent.name, agent.site) for agent in agents),
            agents=len(agents),
        )

    def switch(self, ask: SwitchAsk, *, actor: str) -> MeshSwitches:
        """As ``ControlDoor``."""
        subject = self._subject(ask.reach, ask.name)
        self._kept.switch(self._tenant, subject, on=ask.on, by=actor, at_us=self._clock())
        self._audit.switch(actor, _said(subject), on=ask.on)
        self._cycles.obey(self._kept.switches(self._tenant))
        return self.switches()

    def tags(self, agent: str) -> list[str]:
        """As ``ControlDoor``."""
        self._subject(Reach.AGENT, agent)
        return self._kept.tags(self._tenant).get(agent, [])

    def tag(self, agent: str, ask: TagsAsk, *, actor: str) -> list[str]:
        """As ``ControlDoor``."""
        before = set(self.tags(agent))
        after = (before | set(ask.add)) - set(ask.remove)
        if len(after) > MOST_TAGS:
            raise DemandError(f"{len(after)} tags on {agent}", remedy=f"keep to {MOST_TAGS}: remove some")
        if after != before:
            self._kept.tag(self._tenant, agent, after)
            self._audit.tags(actor, agent, put=after - before, taken=before - after)
        return self.tags(agent)

    def revoke(self, agent: str, *, actor: str) -> None:
        """As ``ControlDoor``."""
        self._state.revoke(self._tenant, agent, by=actor, at_us=self._clock())

    def budgets(self) -> Budgets:
        """As ``ControlDoor``."""
        return Budgets(setting=self._cycles.planner.setting, own=self._kept.budgets(self._tenant))

    def budget(self, ask: BudgetAsk, *, actor: str) -> Budgets:
        """As ``ControlDoor``."""
        subject = self._subject(ask.reach, ask.name)
        own = Allowance(cpu_bp=ask.cpu_bp, bytes_per_hour=ask.bytes_per_hour)
        self._kept.budget(self._tenant, subject, own, by=actor, at_us=self._clock())
        self._audit.budget(actor, _said(subject), cpu_bp=ask.cpu_bp, bytes_per_hour=ask.bytes_per_hour)
        self._cycles.planner.limits = self._kept.limits(self._tenant)
        return self.budgets()

    def _subject(self, reach: Reach, name: str | None) -> Subject:
        """Check that there is such a thing; raises ``DemandError``."""
        if reach is Reach.FLEET:
            if name:
                raise DemandError(
                    "the fleet has no name", remedy="leave the name out, or name a site or agent"
                )
            return Subject(reach, FLEET)
        known = sorted({agent.site if reach is Reach.SITE else agent.name for agent in self._agents()})
        if name not in known:
            some = ", ".join(known[:20]) or "none is enrolled yet"
            raise DemandError(f"no {reach.value} is called {name!r}", remedy=f"one of: {some}")
        return Subject(reach, str(name))

    def _agents(self) -> list[Agent]:
        return self._state.agents(self._tenant)


def _said(subject: Subject) -> str:
    """Name a subject for the audit log: 'the fleet', 'site hotel', 'agent pacs'."""
    return f"{WHO[subject.reach]} {subject.name}".strip()
