"""What people can ask the server to do, and what it answers: the bodies, and who does it.

``server.desk.Desk`` provides the doors. ``actor`` is who asks, for the audit log. Methods run on the event
loop: they are quick.
"""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from analytics.measurement import Rung, named, text, whole
from analytics.shapes import Service
from server.api.controls import ControlDoor
from server.api.policy_door import PolicyDoor


class MeshAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/mesh/runs``: one pair, or every pair of agents that are online."""

    src: Annotated[str, named("agent at one end")] | None = None
    dst: Annotated[str, named("agent at the other end")] | None = None
    all: bool = False


class MeshResult(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of a test on demand; what was not measured is null."""

    src: str
    dst: str
    rung: Rung
    rtt_p50_us: int | None = None
    loss_bp: int | None = None
    error: str = ""


class MeshRun(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run of tests on demand is."""

    id: str
    pairs: int
    pairs_ended: int
    started_us: int
    ended_us: int | None = None
    results: list[MeshResult] = []


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether an agent's paths, or those between two agents, matter: they are tested before others."""

    agent: Annotated[str, named("agent")]
    peer: Annotated[str, named("agent at the other end")] | None = None  # None: every path of the agent
    important: bool = True


class MeshDoor(Protocol):
    """What the routes need of the server; ``server.desk`` provides it. Raises ``DemandError``."""

    def run(self, ask: MeshAsk, *, actor: str) -> MeshRun:
        """Start tests on demand."""

    def run_of(self, id_: str, since: int) -> MeshRun | None:
        """Say how far a run is, with its results from number ``since`` on."""

    def marks(self) -> list[Mark]:
        """List what is marked as important."""

    def mark(self, mark: Mark, *, actor: str) -> list[Mark]:
        """Mark or unmark; returns what is marked then."""


class ServiceTag(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/services``: tag a port; with an empty name, take the tag off it."""

    agent: Annotated[str, named("agent on whose host it listens")]
    port: Annotated[int, whole("TCP port", "", ge=1, le=65535)]
    name: Annotated[str, text("what people call it, as in 'PACS'", most=60)] = ""
    profile: Annotated[str, named("application profile")] = "generic"


class ServiceDoor(Protocol):
    """What the routes need of the server; ``server.desk`` provides it. Raises ``DemandError``."""

    def services(self) -> list[Service]:
        """List what is offered and tagged, by agent and port."""

    def tag(self, tag: ServiceTag, *, actor: str) -> list[Service]:
        """Tag a port, or take its tag off; returns what there is then."""


class Door(MeshDoor, ServiceDoor, Protocol):
    """Everything that people can change."""

    @property
    def control(self) -> ControlDoor:
        """Switches, tags and budgets."""

    @property
    def policy(self) -> PolicyDoor:
        """Who may test whom."""
