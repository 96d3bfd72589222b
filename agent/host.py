"""What an agent has for as long as its process lives, whatever servers say: made before the first session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agent import folder
from agent.bounds import Bounds
from agent.config import Config
from agent.identity import Identity, load_or_create
from agent.local_switch import PASSIVE, Switches
from agent.mesh.icmp import QuotedHeaders
from agent.mesh.peers import KnownPeers, load_anchors
from agent.outbox import Outbox
from agent.passive.capture import Capture
from agent.passive.source import Passive
from analytics.systemd import Notifier, Signs


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Who the agent is, what it remembers, and what its host lets it do."""

    config: Config
    identity: Identity
    peers: KnownPeers
    outbox: Outbox
    passive: Passive
    bounds: Bounds
    switches: Switches
    capture: Capture | None
    headers: QuotedHeaders | None = None
    signs: Signs = field(default_factory=lambda: Signs(Notifier()))


@asynccontextmanager
async def opened(
    config: Config,
    passive: Passive,
    *,
    headers: QuotedHeaders | None = None,
    signs: Signs | None = None,
    outbox: Outbox | None = None,
) -> AsyncIterator[Host]:
    """Open the parts in the data folder, which is this agent's own by now, and watch the host's switches.

    Raises ``IdentityError``, ``FolderError`` and ``ConfigError`` for what is not right on this host.
    """
    identity = load_or_create(config.data, config.name)
    outbox = Outbox(config.data / folder.OUTBOX_NAME, config.name) if outbox is None else outbox
    peers = KnownPeers(config.data, load_anchors(config.identity_anchors))
    switches = Switches(config.data)
    with Bounds.kept(config) as bounds:
        host = Host(
            config=config,
            identity=identity,
            peers=peers,
            outbox=outbox,
            passive=passive,
            bounds=bounds,
            switches=switches,
            capture=Capture(passive.source, switches.off[PASSIVE]) if passive.source else None,
            headers=headers,
            signs=signs or Signs(Notifier()),
        )
        with switches.heard(host.capture.heard if host.capture else _nobody):
            async with switches.watched():
                yield host


def _nobody(*_: object) -> None:
    """Where there is no passive capture, nobody has to obey its switch."""
