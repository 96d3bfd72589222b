"""What the pages of agents show, computed from what is known of them: pure, no HTML, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from analytics.wire import Health
from server.api.agent_info import AgentInfo, Vitals
from server.pages import control_words, text

OWN_POLICY: Final = "own-policy-"
"""How the reasons begin that ``agent.own_policy`` refuses for."""


class Which(StrEnum):
    """Agents that a list is of."""

    ALL = ""
    ONLINE = "online"
    AWAY = "away"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a reader filters by; empty = any."""

    words: str = ""
    site: str = ""
    tag: str = ""
    which: Which = Which.ALL

    def fits(self, agent: AgentInfo) -> bool:
        """Say whether an agent is to be listed."""
        said = f"{agent.name} {agent.site} {agent.label} {' '.join(agent.tags)}".lower()
        states = {
            Which.ALL: True,
            Which.ONLINE: agent.online,
            Which.AWAY: not agent.online,
            Which.OFF: is_off(agent),
        }
        return (
            all(word in said for word in self.words.lower().split())
            and self.site in {"", agent.site}
            and (not self.tag or self.tag in agent.tags)
            and states[self.which]
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """The head of the list of agents."""

    headline: str
    detail: str
    sites: list[str]
    tags: list[str]


def is_off(agent: AgentInfo) -> bool:
    """Say whether active tests are switched off for an agent, here or on its own host."""
    return agent.off is not None or agent.local_off is not None


def fleet_of(agents: Sequence[AgentInfo]) -> Fleet:
    """Sum the fleet up in a sentence, and say what it can be filtered by."""
    online, off = sum(agent.online for agent in agents), sum(map(is_off, agents))
    enrolled = text.plural(len(agents), "agent")
    is_or_are = "is" if online == 1 else "are"
    headline = f"{online:,} of {enrolled} {is_or_are} online." if agents else "No agents yet."
    return Fleet(
        headline=headline,
        detail=f"Active tests are switched off on {text.plural(off, 'agent')}." if off else "",
        sites=sorted({agent.site for agent in agents}),
        tags=sorted({tag for agent in agents for tag in agent.tags}),
    )


def listed(agents: Iterable[AgentInfo], wanted: Wanted) -> list[AgentInfo]:
    """Choose and order agents: those that are away first, then by site and name."""
    return sorted(filter(wanted.fits, agents), key=lambda agent: (agent.online, agent.site, agent.name))


def state_of(agent: AgentInfo) -> str:
    """Say whether an agent is there, in a sentence."""
    if agent.revoked:
        return "Revoked: it is let in no more, but with a token that replaces it."
    if not agent.online:
        return f"Away since {text.clock(agent.seen_us)}."
    there = "" if agent.local_off is None else f" {control_words.off_there(agent.local_off)}"
    doing = "" if agent.off is None else f" {control_words.off_because(agent.off)}"
    off = agent.passive_off
    seeing = "" if off is None else f" Passive capture is {control_words.passive_off(off)}."
    return f"Online, version {agent.version}.{there}{doing}{seeing}"


def says(agent: AgentInfo) -> str:
    """Say what the agent itself says of active tests, where that differs from what it was told."""
    told = agent.vitals.latest.mesh if agent.vitals else None
    if agent.mesh is False:
        return "By its own configuration it takes part in none."
    on = not is_off(agent)
    if told is None or told is on:
        return "" if told is None else f"The agent says that they are {'on' if told else 'off'}."
    return f"The agent has not yet said that they are {'on' if on else 'off'}."


def own_refusals(health: Health) -> int:
    """Count the orders that the policy of an agent's own host refused."""
    return sum(count for why, count in health.grants_refused.items() if why.startswith(OWN_POLICY))


def lost(vitals: Vitals) -> str:
    """Say what an agent lost or refused, in words; empty for nothing."""
    now = vitals.latest
    kinds = (
        (now.events_lost + now.events_missed, "session end", "not seen"),
        (now.packets_forged, "packet", "that were not the peer's"),
        (now.packets_replayed, "packet", "seen twice"),
        (now.packets_unsolicited, "answer", "to nothing that was asked"),
        (now.packets_late, "answer", "that came too late"),
        (sum(now.grants_refused.values()) - own_refusals(now), "order", "refused"),
        (own_refusals(now), "order", "refused by its own policy"),
        (sum(now.receipts_refused.values()), "reading", "of peers not signed"),
        (now.servers_refused, "connection", "that another than the server answered"),
        *((count, "item", f"dropped of its {where}") for where, count in sorted(now.dropped.items())),
    )
    return ", ".join(f"{text.plural(count, what)} {how}" for count, what, how in kinds if count)
