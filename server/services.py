"""Which services an agent's host offers. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from analytics.shapes import Service
from analytics.wire import ServiceOffer
from server.agent_rows import Agent


def services_of(agent: Agent, tagged: Iterable[ServiceOffer]) -> list[Service]:
    """What an agent offers and what was tagged on its host; a tag stands in place of an offer of its port."""
    offered = {offer.port: _service(agent, offer, tagged=False) for offer in agent.services}
    return [*(offered | {offer.port: _service(agent, offer, tagged=True) for offer in tagged}).values()]


def _service(agent: Agent, offer: ServiceOffer, *, tagged: bool) -> Service:
    return Service(name=offer.name, profile=offer.profile, agent=agent.name, port=offer.port, tagged=tagged)
