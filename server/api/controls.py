"""What people can control, as it is asked for and told: switches, tags, budgets."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Protocol

import msgspec

from analytics.measurement import named, whole

MOST_TAGS: Final = 32
"""Of one agent."""

Tag = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=40,
        pattern=r"^[^\s,](?:[^\x00-\x1f\x7f,]*[^\s,])?\Z",
        description="a free word",
    ),
]
"""Free words without a comma, which separates them in forms and commands."""


class Reach(StrEnum):
    """How far a switch or a budget reaches, the widest first."""

    FLEET = "fleet"
    SITE = "site"
    AGENT = "agent"


class SwitchAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/mesh/switches``: active tests on or off for the fleet, a site, or an agent."""

    reach: Reach
    name: Annotated[str, named("site or agent")] | None = None  # none: the fleet
    on: bool


class Off(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is switched off."""

    reach: Reach
    name: str  # empty: the fleet
    by: str  # who did it
    since_us: int


class MeshSwitches(msgspec.Struct, frozen=True, kw_only=True):
    """What is off. An agent takes part only where neither it, nor its site, nor the fleet is off."""

    off: list[Off]
    agents_off: int  # enrolled agents that are off by any of it
    agents: int


class TagsAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/agents/{name}/tags``: put tags on and take tags off; unknown ones are no error."""

    add: Annotated[list[Tag], msgspec.Meta(max_length=MOST_TAGS)] = []
    remove: Annotated[list[Tag], msgspec.Meta(max_length=MOST_TAGS)] = []


CpuBp = Annotated[int, whole("CPU time of one core that active tests may take", "bp", ge=1, le=10_000)]
BytesPerHour = Annotated[int, whole("bytes that active tests may send", "bytes", ge=100_000, le=10**12)]


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What a reach sets for each of its agents; None = not set there."""

    cpu_bp: CpuBp | None = None
    bytes_per_hour: BytesPerHour | None = None


class BudgetAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/budgets``: what each agent of a reach may spend; both null: as if it had not been set."""

    reach: Reach
    name: Annotated[str, named("site or agent")] | None = None  # none: the fleet
    cpu_bp: CpuBp | None = None
    bytes_per_hour: BytesPerHour | None = None


class OwnBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget that somebody set; null = not set there."""

    reach: Reach
    name: str
    cpu_bp: int | None
    bytes_per_hour: int | None
    by: str
    since_us: int


class BudgetNow(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent may spend, and what says so: a reach, or None = the server's setting."""

    cpu_bp: int
    bytes_per_hour: int
    cpu_by: Reach | None = None
    bytes_by: Reach | None = None


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """The server's setting, and what was set instead of it."""

    setting: BudgetNow
    own: list[OwnBudget]


class ControlDoor(Protocol):
    """What the routes need of the server; ``server.controls`` provides it. Raises ``DemandError``."""

    def switches(self) -> MeshSwitches:
        """Tell what is off."""

    def switch(self, ask: SwitchAsk, *, actor: str) -> MeshSwitches:
        """Switch active tests on or off, with effect at once; returns what is off then."""

    def tags(self, agent: str) -> list[str]:
        """List an agent's tags, by alphabet."""

    def tag(self, agent: str, ask: TagsAsk, *, actor: str) -> list[str]:
        """Put tags on and take tags off; returns the agent's tags then."""

    def revoke(self, agent: str, *, actor: str) -> None:
        """Let an agent in no more; it is disconnected within seconds."""

    def budgets(self) -> Budgets:
        """Tell the setting, and what was set instead of it."""

    def budget(self, ask: BudgetAsk, *, actor: str) -> Budgets:
        """Set or unset a budget; returns what is set then. It holds from the next cycle on."""
