"""What agents say is switched off on their own hosts: one audit row a change, and no flood of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from analytics.wire import Health, Hello, LocalOff
from server.audit import Audit

APART_S: Final = 10.0
"""Between two rows of one agent's switch. What changed too soon is noted with the agent's next word."""

SAID: Final[dict[str, Callable[[Hello | Health], LocalOff | None]]] = {
    "mesh": lambda said: said.local_off,
    "passive": lambda said: said.passive_off,
}
"""Switch, as ``pathgrade agent`` calls it -> what a message says of it."""


class OwnSwitches:
    """The switches of one tenant's agents, as far as the audit log tells. Forgotten with this process."""

    def __init__(self, audit: Audit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._audit = audit
        self._clock = clock
        self._noted: dict[tuple[str, str], tuple[LocalOff | None, float]] = {}  # what, when

    def take(self, agent: str, said: Hello | Health) -> None:
        """Note what is another now."""
        for switch, of in SAID.items():
            off, now_s = of(said), self._clock()
            known, at_s = self._noted.get((agent, switch), (None, now_s - APART_S))
            if off != known and now_s - at_s >= APART_S:
                self._noted[agent, switch] = off, now_s
                self._audit.own_switch(agent, switch, off)
