"""What is known of each agent: enrolled, connected, switched, tagged, allowed. Only reads; any thread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from analytics.measurement import Direction, Flow
from server.agent_rows import Agent
from server.api.agent_info import AgentInfo, Listener
from server.api.controls import BudgetNow
from server.control import Limits
from server.hub import Connection, Hub
from server.services import services_of
from server.state import State
from server.vitals import vitals_of

LISTENERS_FROM: Final = 2_000
"""Flows, the newest, in which listeners are looked for."""


class Agents:
    """The agents of one tenant."""

    def __init__(self, state: State, tenant: str, hub: Hub) -> None:
        self._state = state
        self._tenant = tenant
        self._hub = hub

    def all(self, setting: BudgetNow, at_us: int) -> list[AgentInfo]:
        """Tell of each, by name; ``setting`` is what one may spend where nobody set it."""
        limits = self._state.controls.limits(self._tenant)
        return [self._info(agent, limits, setting, at_us) for agent in self._state.agents(self._tenant)]

    def one(self, name: str, setting: BudgetNow, at_us: int) -> AgentInfo | None:
        """Tell of one; None where none is called so."""
        known = next((agent for agent in self._state.agents(self._tenant) if agent.name == name), None)
        limits = self._state.controls.limits(self._tenant)
        return None if known is None else self._info(known, limits, setting, at_us)

    def _info(self, agent: Agent, limits: Limits, setting: BudgetNow, at_us: int) -> AgentInfo:
        connection, name = self._hub.get(agent.name), agent.name
        return AgentInfo(
            name=name,
            site=agent.site,
            label=agent.label,
            online=connection is not None,
            enrolled_us=agent.enrolled_us,
            seen_us=agent.seen_us if connection is None else at_us,
            tags=self._state.controls.tags(self._tenant).get(name, []),
            services=services_of(agent, self._state.services(self._tenant).get(name, ())),
            revoked=self._state.is_revoked(self._tenant, name),
            off=self._hub.switches.off_by(name, agent.site),
            budget=limits.of(name, agent.site, setting),
            **_said_by(connection),
        )


def _said_by(connection: Connection | None) -> dict[str, Any]:
    """What the agent itself says, while it is connected."""
    if connection is None:
        return {"version": "", "passive": "", "mesh": None, "addresses": [], "nat": None, "vitals": None}
    hello = connection.hello
    return {
        "version": hello.version,
        "passive": hello.passive,
        "mesh": hello.mesh,
        "addresses": hello.addresses,
        "nat": connection.nat,
        "local_off": connection.local_off,
        "passive_off": connection.passive_off,
        "vitals": vitals_of([*connection.told]),
    }


def listeners_of(flows: Iterable[Flow]) -> list[Listener]:
    """Find the ports that sessions ended at, those with the most clients first. Pure."""
    found: dict[tuple[str, int], list[Flow]] = {}
    for flow in flows:
        if flow.direction is Direction.IN:
            found.setdefault((flow.agent, flow.service_port), []).append(flow)
    made = [
        Listener(
            agent=agent,
            port=port,
            process=max(own, key=lambda flow: flow.window_us).process,
            clients=len({flow.remote_address for flow in own}),
            sessions=sum(flow.opened for flow in own),
            seen_us=max(flow.window_us for flow in own),
        )
        for (agent, port), own in found.items()
    ]
    return sorted(made, key=lambda one: (-one.clients, -one.sessions, one.agent, one.port))
