"""A desk for tests of the pages: it keeps what it is told; its tests on demand end when looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from analytics.measurement import Rung
from analytics.policy import ALL_ALLOWED, Policy
from analytics.report import Service
from server.api.controls import (
    BudgetAsk,
    BudgetNow,
    Budgets,
    MeshSwitches,
    Off,
    OwnBudget,
    Reach,
    SwitchAsk,
    TagsAsk,
)
from server.api.doors import Mark, MeshAsk, MeshResult, MeshRun, ServiceTag
from server.errors import DemandError

AT_US = 1_795_464_000_000_000
CLINIC_OFF = Off(reach=Reach.SITE, name="clinic", by="ada", since_us=AT_US - 3_600_000_000)
HOTEL = OwnBudget(
    reach=Reach.SITE, name="hotel", cpu_bp=None, bytes_per_hour=5_000_000, by="ada", since_us=AT_US
)
LOOKS = 2
"""At a run, until it has ended."""


@dataclass
class FixtureControl:
    """Switches, tags, budgets."""

    off: list[Off] = field(default_factory=lambda: [CLINIC_OFF])
    own: list[OwnBudget] = field(default_factory=lambda: [HOTEL])
    tagged: dict[str, set[str]] = field(default_factory=dict)
    revoked: list[tuple[str, str]] = field(default_factory=list)  # agent, by whom

    def switches(self) -> MeshSwitches:
        return MeshSwitches(off=self.off, agents_off=len(self.off), agents=6)

    def switch(self, ask: SwitchAsk, *, actor: str) -> MeshSwitches:
        if ask.name == "nobody":
            raise DemandError("no site is called 'nobody'", remedy="one of: clinic, hotel")
        name = ask.name or ""
        self.off = [off for off in self.off if (off.reach, off.name) != (ask.reach, name)]
        if not ask.on:
            self.off.append(Off(reach=ask.reach, name=name, by=actor, since_us=AT_US))
        return self.switches()

    def tags(self, agent: str) -> list[str]:
        return sorted(self.tagged.get(agent, set()))

    def tag(self, agent: str, ask: TagsAsk, *, actor: str) -> list[str]:
        self.tagged[agent] = (self.tagged.get(agent, set()) | set(ask.add)) - set(ask.remove)
        return self.tags(agent)

    def revoke(self, agent: str, *, actor: str) -> None:
        if agent == "nobody":
            raise DemandError("no agent of default is called 'nobody'", remedy="pathgrade server agent list")
        self.revoked.append((agent, actor))

    def budgets(self) -> Budgets:
        return Budgets(setting=BudgetNow(cpu_bp=80, bytes_per_hour=36_000_000), own=self.own)

    def budget(self, ask: BudgetAsk, *, actor: str) -> Budgets:
        self.own = [own for own in self.own if (own.reach, own.name) != (ask.reach, ask.name or "")]
        told = {**msgspec.structs.asdict(ask), "name": ask.name or ""}
        self.own.append(OwnBudget(**told, by=actor, since_us=AT_US))
        return self.budgets()


@dataclass
class FixturePolicy:
    """Who may test whom."""

    set: Policy = ALL_ALLOWED

    def policy(self) -> Policy:
        return self.set


@dataclass
class FixtureDesk:
    """Everything that people can change."""

    control: FixtureControl = field(default_factory=FixtureControl)
    policy: FixturePolicy = field(default_factory=FixturePolicy)
    asked: list[MeshAsk] = field(default_factory=list)
    tags: list[ServiceTag] = field(default_factory=list)
    looks: int = 0

    def run(self, ask: MeshAsk, *, actor: str) -> MeshRun:
        if ask.src == ask.dst:
            raise DemandError("an agent has no path to itself")
        self.asked.append(ask)
        self.looks = 0
        return self._told()

    def run_of(self, id_: str, since: int) -> MeshRun | None:
        if id_ != "5d1f" or not self.asked:
            return None
        self.looks += 1
        return self._told()

    def marks(self) -> list[Mark]:
        return []

    def mark(self, mark: Mark, *, actor: str) -> list[Mark]:
        return [mark]

    def services(self) -> list[Service]:
        return []

    def tag(self, tag: ServiceTag, *, actor: str) -> list[Service]:
        self.tags.append(tag)
        return []

    def _told(self) -> MeshRun:
        ask, is_over = self.asked[-1], self.looks >= LOOKS
        ways = ((str(ask.src), str(ask.dst)), (str(ask.dst), str(ask.src)))
        results = [MeshResult(src=a, dst=b, rung=Rung.SRFLX, rtt_p50_us=247_300, loss_bp=0) for a, b in ways]
        return MeshRun(
            id="5d1f",
            pairs=1,
            pairs_ended=int(is_over),
            started_us=AT_US,
            ended_us=AT_US + 1_700_000 if is_over else None,
            results=results if is_over else [],
        )
