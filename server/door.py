"""How many connections a listener holds, and whose: a bound on memory and descriptors, whoever knocks.

A connection is a *stranger's* until it has shown who it is: on the agents' listener by the certificate of an
agent that is let in, on the report's by a whole request. Strangers are few and short-lived unless somebody
means no good. Of one address only so many are let in at a time; where all together are too many, the one that
has been here longest goes: who means well has shown itself by then. An agent that is known has a bound of its
own. What is turned away is counted, and nothing is kept of it.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from analytics.memory import tidy
from server.accounts.throttle import block_of

if TYPE_CHECKING:
    from server.agent_tls import Presented

MOST_OPEN: Final = 8_192
"""Connections of one listener: of a thousand agents two each, and of those that are being replaced."""
MOST_STRANGERS: Final = 1_024
"""A handshake takes two round trips: a thousand agents that come back at once are strangers for a second."""
MOST_OF_ADDRESS: Final = 512
"""Strangers: agents of a large site come from one address."""
MOST_OF_AGENT: Final = 16
"""It has two, and for some seconds those that it has left, as a laptop that was moved."""
LOOKED_THROUGH_EACH: Final = 512
"""Connections: a handshake that fails leaves itself behind in a circle (the error, its frame, the connection
and its buffers), and the server seldom looks for such. Ten thousand of them were 1.7 GB."""
DESCRIPTORS: Final = 65_536
TAKEN_AT_ONCE: Final = 128
"""Connections that are turned away in one turn of the event loop."""

FULL: Final = "connections full"
ADDRESS: Final = "connections of an address"
LONGEST: Final = "connections of strangers"
AGENT: Final = "connections of an agent"


class Most(NamedTuple):
    """Bounds of one listener."""

    open: int = MOST_OPEN
    strangers: int = MOST_STRANGERS
    of_address: int = MOST_OF_ADDRESS
    of_agent: int = MOST_OF_AGENT


class Door:
    """The connections of one listener. Descriptors name them: one is not used again before it is closed."""

    def __init__(
        self,
        refused: Counter[str] | None = None,
        most: Most | None = None,
        knows: Callable[[Presented], bool] = lambda shown: True,
    ) -> None:
        self.knows = knows
        self.refused = Counter[str]() if refused is None else refused
        self._most = most or Most()
        self._admitted = 0
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._strangers: OrderedDict[int, weakref.ref[socket.socket]] = OrderedDict()
        self._from: dict[int, str] = {}  # stranger -> its address
        self._of_address: Counter[str] = Counter()
        self._of_agent: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        """How many are open."""
        return sum(one.fileno() >= 0 for one in self._open)

    @property
    def strangers(self) -> int:
        """How many of them have not shown who they are."""
        return len(self._strangers)

    def admit(self, connection: socket.socket, address: Any) -> bool:
        """Let a connection in, or say why not in ``refused``; then it is for the caller to close it."""
        block = block_of(str(address[0]) if address else "")
        self._sweep(block)
        if len(self._open) >= self._most.open and len(self) >= self._most.open:
            self.refused[FULL] += 1
            return False
        if self._of_address[block] >= self._most.of_address:
            self.refused[ADDRESS] += 1
            return False
        if len(self._strangers) >= self._most.strangers:
            self._send_away()
        self._admitted += 1
        if self._admitted % LOOKED_THROUGH_EACH == 0:
            tidy()
        number = connection.fileno()
        self._forget(number)
        self._open.add(connection)
        self._strangers[number] = weakref.ref(connection)
        self._from[number] = block
        self._of_address[block] += 1
        return True

    def known(self, number: int) -> None:
        """Take it that a connection (its descriptor) is no stranger's any more."""
        self._forget(number)

    def enter(self, number: int, agent: tuple[str, str]) -> bool:
        """Let in one more of an agent (tenant, name), no stranger; False, and counted, if it has enough."""
        if self._of_agent[agent] >= self._most.of_agent:
            self.refused[AGENT] += 1
            return False
        self._of_agent[agent] += 1
        self.known(number)
        return True

    def leave(self, agent: tuple[str, str]) -> None:
        """Take it that a connection that was let in as an agent's is gone."""
        self._of_agent[agent] -= 1
        if not self._of_agent[agent]:
            del self._of_agent[agent]

    def _sweep(self, block: str) -> None:
        """Forget strangers that have gone; only where there are many, as nobody tells when one goes."""
        if len(self._strangers) < self._most.strangers and self._of_address[block] < self._most.of_address:
            return
        for number, stranger in list(self._strangers.items()):
            one = stranger()
            if one is None or one.fileno() != number:
                self._forget(number)

    def _send_away(self) -> None:
        number, stranger = next(iter(self._strangers.items()))
        self._forget(number)
        self.refused[LONGEST] += 1
        if (one := stranger()) is not None:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # its transport closes it

    def _forget(self, number: int) -> None:
        if self._strangers.pop(number, None) is not None:
            block = self._from.pop(number)
            self._of_address[block] -= 1
            if not self._of_address[block]:
                del self._of_address[block]


class Doorway(socket.socket):
    """A listening socket behind which a door is."""

    door: Door | None = None

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept who is let in. Raises ``BlockingIOError`` also after many who are not."""
        for _ in range(TAKEN_AT_ONCE):
            connection, address = super().accept()
            if self.door is None or self.door.admit(connection, address):
                return connection, address
            connection.close()
        raise BlockingIOError


def make_room() -> None:
    """Let this process have as many descriptors as it may: by itself it may have 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
