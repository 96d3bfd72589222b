"""Who is connected right now, and how to say something to them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from analytics.wire import FromServer, Hello, LocalOff, NatReport
from server.agent_rows import Agent
from server.control import ALL_ON, Switches
from server.vitals import REMEMBERED, Told

MOST_WAITING: Final = 256
"""Messages to one agent that has stopped reading; a test needs some ten."""

REPLACED: Final = 4001
"""WebSocket close code: the same agent has connected again."""
TOO_SLOW: Final = 4002
"""WebSocket close code: the agent does not read what it is sent."""

REVOKED: Final = 4004
"""WebSocket close code: the agent was revoked."""
OVER: Final = 4005
"""WebSocket close code: the certificate of the connection is over, and the agent has not renewed it."""

Leaving = Callable[[str, str], None]
"""Called with an agent's name and why its connection is gone."""


class Connection:
    """One agent's control connection. What is to be sent waits in a bounded queue."""

    def __init__(self, agent: Agent, hello: Hello, *, server_host: str, until_us: int = 0) -> None:
        self.agent = agent
        self.hello = hello
        self.until_us = until_us  # of the certificate it was made with
        self.server_host = server_host  # this server, as the agent reaches it
        self.told: deque[Told] = deque(maxlen=REMEMBERED)  # of its health
        self.nat: NatReport | None = None
        self.local_off = hello.local_off
        self.passive_off = hello.passive_off
        self.binding = b""  # of its certificate, by its identity key; checked by whoever sets it
        self.outgoing: asyncio.Queue[FromServer] = asyncio.Queue(MOST_WAITING)
        self.closing: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def say(self, message: FromServer) -> None:
        """Send a message soon; an agent that leaves too many unread is disconnected."""
        try:
            self.outgoing.put_nowait(message)
        except asyncio.QueueFull:
            self.close(TOO_SLOW, f"{MOST_WAITING} messages unread")

    def close(self, code: int, reason: str) -> None:
        """Disconnect soon."""
        if not self.closing.done():
            self.closing.set_result((code, reason))


class Hub:
    """The connections of all agents, one each: a second one of the same agent replaces the first."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._connections: dict[str, Connection] = {}
        self.changed_s = clock()
        self.changed = asyncio.Event()
        self.on_leaving: Leaving = lambda name, why: None
        self.switches: Switches = ALL_ON
        self.too_slow = 0
        """Connections that were closed as the agent did not read what it was sent."""

    def attach(self, connection: Connection) -> None:
        """Take a connection in, in place of an older one of the same agent."""
        name = connection.agent.name
        if (older := self._connections.get(name)) is not None:
            self._remove(older, "it connected again")
            older.close(REPLACED, "the same agent has connected again")
        self._connections[name] = connection
        self._touch()

    def detach(self, connection: Connection) -> None:
        """Forget a connection, unless another has replaced it already."""
        self.too_slow += connection.closing.done() and connection.closing.result()[0] == TOO_SLOW
        if self._connections.get(connection.agent.name) is connection:
            self._remove(connection, "its control connection broke")

    def expel(self, connection: Connection, code: int, why: str) -> None:
        """End a connection that has no right to be any more, and the tests that its agent is in."""
        if self._connections.get(connection.agent.name) is connection:
            self._remove(connection, why)
        connection.close(code, why)

    def get(self, name: str) -> Connection | None:
        """Find the connection of an agent; None while it is away."""
        return self._connections.get(name)

    def connections(self) -> list[Connection]:
        """List all connections, by agent."""
        online = self._connections.copy()
        return [online[name] for name in sorted(online)]

    def mesh_sites(self) -> dict[str, str]:
        """Name the agents that take part in the mesh, with the site of each."""
        return {c.agent.name: c.agent.site for c in self.connections() if c.hello.mesh and self.is_on(c)}

    def switch_here(self, connection: Connection, off: LocalOff | None) -> bool:
        """Take what an agent says is switched on its own host; False where that is known already."""
        if connection.local_off == off:
            return False
        connection.local_off = off
        self._touch()
        return True

    def is_on(self, connection: Connection) -> bool:
        """Say whether nobody switched active tests off for this agent, here or on its own host."""
        here = self.switches.on(connection.agent.name, connection.agent.site)
        return here and connection.local_off is None

    def obey(self, switches: Switches) -> list[Connection]:
        """Take what is off from now on; gives the connections that this changes."""
        before = {connection: self.is_on(connection) for connection in self.connections()}
        self.switches = switches
        changed = [
            connection for connection, was_on in before.items() if self.is_on(connection) is not was_on
        ]
        if changed:
            self._touch()
        return changed

    def _remove(self, connection: Connection, why: str) -> None:
        del self._connections[connection.agent.name]
        self._touch()
        self.on_leaving(connection.agent.name, why)

    def _touch(self) -> None:
        self.changed_s = self._clock()
        self.changed.set()
