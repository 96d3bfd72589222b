"""Where people ask for tests, and say which paths matter and what a port serves.

It provides ``server.api.doors.Door``.
"""

from __future__ import annotations

from itertools import combinations

from analytics.rules.load import Rules
from analytics.shapes import Service
from analytics.wire import ServiceOffer
from server.api.doors import Mark, MeshAsk, MeshRun, ServiceTag
from server.audit import Audit
from server.controls import Controls
from server.cycles import Cycles
from server.errors import DemandError
from server.hub import Hub
from server.policies import Policies
from server.schedule import Pair
from server.services import services_of
from server.state import State


class Desk:
    """Everything on the event loop, but for the state's small writes."""

    def __init__(
        self, state: State, tenant: str, *, hub: Hub, cycles: Cycles, audit: Audit, rules: Rules
    ) -> None:
        self._state = state
        self._tenant = tenant
        self._hub = hub
        self._cycles = cycles
        self._audit = audit
        self._rules = rules
        self.control = Controls(state, tenant, cycles=cycles, audit=audit)
        self.policy = Policies(state, tenant, cycles=cycles, audit=audit)
        self._apply_marks()

    def run(self, ask: MeshAsk, *, actor: str) -> MeshRun:
        """As ``MeshDoor``."""
        pairs = self._all() if ask.all else [self._pair(ask)]
        run = self._cycles.demand(pairs, fleet=ask.all)
        subject = "all agents" if ask.all else f"{ask.src} {ask.dst}"
        self._audit.demand(actor, subject, run=run.id, pairs=len(pairs))
        return run.told()

    def run_of(self, id_: str, since: int) -> MeshRun | None:
        """As ``MeshDoor``."""
        run = self._cycles.run_of(id_)
        return run.told(since=since) if run is not None else None

    def marks(self) -> list[Mark]:
        """As ``MeshDoor``."""
        return [Mark(agent=agent, peer=peer or None) for agent, peer in self._state.marks(self._tenant)]

    def mark(self, mark: Mark, *, actor: str) -> list[Mark]:
        """As ``MeshDoor``."""
        for name in (mark.agent, *([mark.peer] if mark.peer else [])):
            self._require(name in self._names(), f"no agent is called {name!r}")
        self._require(mark.agent != mark.peer, "an agent has no path to itself")
        ends = sorted((mark.agent, mark.peer)) if mark.peer else [mark.agent, ""]
        self._state.mark(self._tenant, ends[0], ends[1], important=mark.important)
        self._audit.mark(actor, " ".join(filter(None, ends)), important=mark.important)
        self._apply_marks()
        return self.marks()

    def services(self) -> list[Service]:
        """As ``ServiceDoor``."""
        tagged = self._state.services(self._tenant)
        agents = self._state.agents(self._tenant)
        found = [one for agent in agents for one in services_of(agent, tagged.get(agent.name, ()))]
        return sorted(found, key=lambda one: (one.agent, one.port))

    def tag(self, tag: ServiceTag, *, actor: str) -> list[Service]:
        """As ``ServiceDoor``."""
        self._require(tag.agent in self._names(), f"no agent is called {tag.agent!r}")
        known = self._rules.profiles
        if tag.profile not in known:
            raise DemandError(f"no profile is called {tag.profile!r}", remedy=f"one of: {', '.join(known)}")
        offer = ServiceOffer(name=tag.name, profile=tag.profile, port=tag.port) if tag.name else None
        self._state.tag(self._tenant, tag.agent, tag.port, offer)
        self._audit.tag(actor, f"{tag.agent} {tag.port}", service=tag.name)
        return self.services()

    def _apply_marks(self) -> None:
        marked = {Pair(agent, peer) if peer else agent for agent, peer in self._state.marks(self._tenant)}
        self._cycles.planner.important = marked

    def _names(self) -> set[str]:
        return {agent.name for agent in self._state.agents(self._tenant)}

    def _all(self) -> list[Pair]:
        online = sorted(self._hub.mesh_sites())
        self._require(len(online) > 1, f"{len(online)} agents are online and take part in tests")
        return [Pair(*pair) for pair in combinations(online, 2)]

    def _pair(self, ask: MeshAsk) -> Pair:
        self._require(bool(ask.src and ask.dst), "a run needs src and dst, or all")
        self._require(ask.src != ask.dst, "an agent has no path to itself")
        online = self._hub.mesh_sites()
        for name in (ask.src, ask.dst):
            self._cycles.require_on(str(name))
            self._require(name in online, f"{name!r} is not online, or takes no part in tests")
        return Pair(*sorted((str(ask.src), str(ask.dst))))

    @staticmethod
    def _require(holds: bool, why: str) -> None:
        if not holds:
            raise DemandError(why, remedy="pathgrade status and GET /v1/agents name the agents")
