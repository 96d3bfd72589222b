"""What a host lets its agent take, made once in its life: no session with a server begins any of it anew.

::

    own policy ([policy] of agent.toml) ─┐
    packet trains' bytes of an hour ─────┼─ spent.json: also a restart does not
    governor (limit_... of agent.toml) ──┘
    STUN and TURN servers that are asked
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from agent import health
from agent.config import Config
from agent.limits import Governor, Use
from agent.mesh.asked import AskedServers
from agent.mesh.budget import Budget
from agent.own_policy import OwnPolicy
from agent.spent import Keeper
from agent.thrift import Thrift
from analytics.clock import now_us


class Bounds:
    """All of them, and what keeps the first three."""

    def __init__(self, config: Config) -> None:
        """Make them as the configuration has them, with nothing spent."""
        self.own = OwnPolicy(config.policy, config.name, monotonic_ns=time.monotonic_ns, wall_us=now_us)
        self.trains = Budget(config.train_mb_an_hour * 1_000_000)
        self.servers = AskedServers(
            config.policy.servers, own_server=config.server, monotonic_ns=time.monotonic_ns
        )
        governor = Governor(config.limits)
        self.thrift = Thrift(governor, trains=self.trains, used=self._used)
        self.keeper = Keeper(config.data, governor=governor, trains=self.trains, own=self.own)
        self._batches = 0

    @classmethod
    @contextmanager
    def kept(cls, config: Config) -> Iterator[Bounds]:
        """Make them with what an earlier process spent, and leave to the next one what was spent."""
        bounds = cls(config)
        bounds.keeper.restore()
        try:
            yield bounds
        finally:
            bounds.keeper.close()

    async def keep(self) -> None:
        """Look at what the agent takes, act on it and note it, until cancelled."""
        await self.thrift.run(after=self.keeper.keep)

    def sends(self, sent_bytes: int) -> None:
        """Count a batch that is sent to the server."""
        self._batches += sent_bytes

    def _used(self) -> Use:
        """What the whole agent took so far."""
        sent = (health.sent_bytes() or 0) + self._batches
        return Use(time.monotonic_ns(), health.cpu_us(), health.rss_kb(), sent)
