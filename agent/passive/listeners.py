"""What a listener tells: whose a session is that nobody used, and who opened one older than the agent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from agent.passive.columns import Group, group_of
from analytics.measurement import Direction
from ebpf.events import Opener, SessionEvent, TcpState

_ANY: Final = (bytes(10) + b"\xff\xff" + bytes(4), bytes(16))
"""What a socket that listens on every address says: 0.0.0.0 or ::."""

_DIRECTIONS: Final[dict[int, Direction]] = {
    Opener.UNKNOWN: Direction.UNKNOWN,
    Opener.LOCAL: Direction.OUT,
    Opener.REMOTE: Direction.IN,
}


class Holder(NamedTuple):
    """A process as a record names it."""

    pid: int
    started_ns: int
    command: bytes


class Seen(NamedTuple):
    """How a session is looked at once its listener was asked."""

    direction: Direction
    service_port: int
    holder: Holder
    guessed: bool  # nobody used it: the holder is its listener's

    @property
    def unowned(self) -> bool:
        """True where a listener could tell the owner, but none is known."""
        return not self.holder.pid and self.direction == Direction.IN


class Listeners:
    """Who listens where, as of the last snapshot."""

    def __init__(self) -> None:
        self._holders: dict[tuple[int, int, bytes], Holder] = {}
        self._ports: set[tuple[int, int]] = set()

    def learn(self, snapshot: Iterable[SessionEvent]) -> None:
        """Take the listening sockets of a snapshot for all there are."""
        listening = [event for event in snapshot if event.state == TcpState.LISTEN]
        self._holders = {(event.netns, event.local_port, event.local): _holder(event) for event in listening}
        self._ports = {(event.netns, event.local_port) for event in listening}

    def direction(self, event: SessionEvent) -> Direction:
        """Who opened it; of an older session, only that the peer did where something listens on its port."""
        if event.opener == Opener.UNKNOWN and (event.netns, event.local_port) in self._ports:
            return Direction.IN
        return _DIRECTIONS[event.opener]

    def see_all(self, group: Group) -> Seen:
        """Look at the sessions of a group."""
        return self._see(group, _DIRECTIONS[group.opener], group.service_port)

    def see(self, event: SessionEvent, direction: Direction) -> Seen:
        """Look at one session whose direction is known."""
        port = event.local_port if direction == Direction.IN else event.service_port
        return self._see(group_of(event), direction, port)

    def _see(self, group: Group, direction: Direction, port: int) -> Seen:
        """One that nobody used was still in its listener's queue."""
        listener = None
        if not group.pid and direction == Direction.IN:
            listener = self._listener(group.netns, port, group.local)
        return Seen(direction, port, listener or _holder(group), guessed=listener is not None)

    def _listener(self, netns: int, port: int, local: bytes) -> Holder | None:
        """Find who holds the socket that connections to this address come to; of several, the last told."""
        found = (self._holders.get((netns, port, address)) for address in (local, *_ANY))
        return next((holder for holder in found if holder and holder.pid), None)


def _holder(told: SessionEvent | Group) -> Holder:
    return Holder(told.pid, told.owner_started_ns, told.command)
