"""Who takes part in active tests, and what each may spend: what people switched and set decides. Pure.

Off wins, and the wider reach goes first: fleet, then site, then agent. An agent is on only where nothing
that it belongs to is off. A budget is the other way round: the narrower one goes first, for CPU and bytes
each on its own; what nobody set is the server's setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from server.api.controls import Allowance, BudgetNow, Off, Reach
from server.budget import Budget, budget_of

FLEET: Final = ""
"""The name under which the whole fleet is switched: it has none."""


class Subject(NamedTuple):
    """What can be switched or given a budget: a fleet without a name, a site, an agent."""

    reach: Reach
    name: str


def subjects_of(agent: str, site: str) -> tuple[Subject, Subject, Subject]:
    """Name what an agent belongs to, the widest first."""
    return Subject(Reach.FLEET, FLEET), Subject(Reach.SITE, site), Subject(Reach.AGENT, agent)


@dataclass(frozen=True, slots=True)
class Switches:
    """What is switched off; everything else is on."""

    off: Mapping[Subject, Off] = field(default_factory=dict)

    def off_by(self, agent: str, site: str) -> Off | None:
        """Say what switches an agent off, the widest of it; None where it is on."""
        found = (self.off.get(subject) for subject in subjects_of(agent, site))
        return next((off for off in found if off is not None), None)

    def on(self, agent: str, site: str) -> bool:
        """Say whether an agent takes part in active tests."""
        return self.off_by(agent, site) is None


ALL_ON: Final = Switches()


@dataclass(frozen=True, slots=True)
class Limits:
    """Budgets that people set instead of the server's setting; None in one = not set."""

    own: Mapping[Subject, Allowance] = field(default_factory=dict)

    def of(self, agent: str, site: str, otherwise: BudgetNow) -> BudgetNow:
        """Say what an agent may spend, and which reach says so."""
        for subject in subjects_of(agent, site):
            if (own := self.own.get(subject)) is not None:
                otherwise = narrowed(otherwise, own, subject.reach)
        return otherwise


NO_LIMITS: Final = Limits()


def narrowed(wider: BudgetNow, own: Allowance, reach: Reach) -> BudgetNow:
    """Take what a narrower reach sets over what a wider one says."""
    cpu_bp, sent = own.cpu_bp, own.bytes_per_hour
    return BudgetNow(
        cpu_bp=wider.cpu_bp if cpu_bp is None else cpu_bp,
        cpu_by=wider.cpu_by if cpu_bp is None else reach,
        bytes_per_hour=wider.bytes_per_hour if sent is None else sent,
        bytes_by=wider.bytes_by if sent is None else reach,
    )


def own_budgets(
    limits: Limits, sites: Mapping[str, str], setting: BudgetNow, period_s: float
) -> dict[str, Budget]:
    """Work out the budget of a cycle of each agent (name -> site) that has another than the setting."""
    if not limits.own:
        return {}
    told = {agent: limits.of(agent, site, setting) for agent, site in sites.items()}
    return {
        agent: budget_of(period_s=period_s, cpu_bp=now.cpu_bp, bytes_per_hour=now.bytes_per_hour)
        for agent, now in told.items()
        if now != setting
    }
