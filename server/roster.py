"""Who is in a tenant's fleet, now and at a moment of the past.

Of a large fleet the members are listed once a second, as every page asks for them; and who was on line at a
past moment is not looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from analytics.measurement import Reading
from analytics.shapes import Member
from analytics.store.store import Store
from analytics.then import members_then
from analytics.wire import LocalOff, ServiceOffer
from server.agent_rows import Agent
from server.board import SMALL_AGENTS
from server.hub import Connection, Hub
from server.services import services_of
from server.state import State

SECOND_US: Final = 1_000_000


class Roster:
    """The members. May be asked from several threads."""

    def __init__(
        self,
        tenant: str,
        *,
        state: State,
        hub: Hub,
        store: Store,
        clock: Callable[[], int],
        stale_after_s: Callable[[], int],
    ) -> None:
        self._tenant = tenant
        self._state = state
        self._hub = hub
        self._store = store
        self._clock = clock
        self._stale_after_s = stale_after_s
        self._listed: tuple[int, list[Member]] = (0, [])  # large fleet: when the members were listed

    def is_large(self) -> bool:
        """Whether the fleet has a board, and bounds on what is made when a page asks."""
        return len(self.enrolled()) > SMALL_AGENTS

    def enrolled(self) -> list[Agent]:
        """List the agents, by name."""
        return self._state.agents(self._tenant)

    def enrolled_us(self) -> dict[str, int]:
        """Say since when each is enrolled."""
        return {agent.name: agent.enrolled_us for agent in self.enrolled()}

    def now(self) -> list[Member]:
        """List the members."""
        if not self.is_large():
            return self.looked_up()
        second, listed = self._listed
        if second != self._clock() // SECOND_US:
            listed = self.looked_up()
            self._listed = (self._clock() // SECOND_US, listed)
        return listed

    def at(self, at_us: int) -> list[Member]:
        """List the members of then. Raises ``StoreError``."""
        if not self.is_large():
            return self.then(self._store.readings_latest(self._tenant, at_us), at_us)
        enrolled_us = self.enrolled_us()
        return [member for member in self.now() if enrolled_us.get(member.name, at_us + 1) <= at_us]

    def then(self, readings: Sequence[Reading], at_us: int) -> list[Member]:
        """As ``at``, of a small fleet whose latest readings by then are known."""
        stale_us = self._stale_after_s() * SECOND_US
        return members_then(self.now(), self.enrolled_us(), readings, at_us=at_us, stale_us=stale_us)

    def looked_up(self) -> list[Member]:
        """List the members as they are at this moment."""
        online = {connection.agent.name: connection for connection in self._hub.connections()}
        services = self._state.services(self._tenant)
        tags, switches = self._state.controls.tags(self._tenant), self._hub.switches
        here = self.off_there()
        return [
            msgspec.structs.replace(
                member_of(agent, services.get(agent.name, ()), online.get(agent.name)),
                tags=tags.get(agent.name, []),
                switched_off=not switches.on(agent.name, agent.site) or agent.name in here,
            )
            for agent in self.enrolled()
        ]

    def tested(self) -> set[str]:
        """Name the agents that are to be tested: the enrolled, but those that take no part or are off."""
        apart = {c.agent.name for c in self._hub.connections() if not c.hello.mesh}
        return {agent.name for agent in self.enrolled() if agent.name not in apart} - self.off()

    def off(self) -> set[str]:
        """Name the agents that somebody switched off, here or on their own hosts."""
        switches = self._hub.switches
        here = {agent.name for agent in self.enrolled() if not switches.on(agent.name, agent.site)}
        return here | self.off_there().keys()

    def off_there(self) -> dict[str, LocalOff]:
        """Tell of the connected agents that are switched off on their own hosts."""
        return {c.agent.name: c.local_off for c in self._hub.connections() if c.local_off is not None}

    def passive_off_there(self) -> dict[str, LocalOff]:
        """Tell of the connected agents whose passive capture is switched off on their own hosts."""
        return {c.agent.name: c.passive_off for c in self._hub.connections() if c.passive_off is not None}

    def online(self) -> int:
        """Count the agents that are connected."""
        return len({connection.agent.name for connection in self._hub.connections()})


def member_of(agent: Agent, tagged: Iterable[ServiceOffer], connection: Connection | None) -> Member:
    """Put together what is known of an agent; of one that is away, nothing of what it said of itself."""
    return Member(
        name=agent.name,
        site=agent.site,
        label=agent.label,
        online=connection is not None,
        services=services_of(agent, tagged),
        addresses=connection.hello.addresses if connection else [],
        nat=connection.nat if connection else None,
    )
