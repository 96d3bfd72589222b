"""What people can ask the server to do, and what it answers: the bodies, and who does it.

``server.desk.Desk`` provides the doors. ``actor`` is who asks, for the audit log. Methods run on the event
loop: they are quick.
"""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from analytics.measurement import Rung, named, text, whole
from analytics.shapes import Service
from server.alerts.model import Alert, Matcher, ReceiverStatus, Silence


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


Who = Annotated[str, text("who it was, where that is not who asks", most=60)]
Note = Annotated[str, text("why, for those who come later", most=300)]


class AckAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/alerts/{id}/ack``: somebody has seen it."""

    by: Who = ""
    note: Note = ""


class SilenceAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/silences``: receivers are not told of these alerts until then."""

    matcher: Matcher
    until_us: Annotated[int, whole("us since 1970", "us", ge=0)]
    by: Who = ""
    note: Note = ""


class TestAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/alerts/receivers/{name}/test``: nothing to say, but as JSON."""


class AlertList(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /v1/alerts``."""

    at_us: int
    rules_version: str
    looked_us: int | None  # when somebody last looked for alerts; None = not yet
    open: list[Alert]  # the worst first
    past: list[Alert]  # those that were over since ``since``, the latest first
    silences: list[Silence]  # that are on


class ReceiverTest(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/alerts/receivers/{name}/test``: what became of a test alert."""

    receiver: str
    delivered: bool
    took_us: int | None = None
    error: str = ""


class AlertDoor(Protocol):
    """What the routes need of the server; ``server.alerts.desk`` provides it. Raises ``AlertError``.

    Methods may wait for the disk: they are called in worker threads, but for ``test``.
    """

    def alerts(self, since_us: int | None, limit: int) -> AlertList:
        """List those that are open, and those that were over since then."""

    def acknowledge(self, id_: str, ask: AckAsk, *, actor: str) -> Alert:
        """Note that somebody has seen an open alert."""

    def silences(self) -> list[Silence]:
        """List the silences that are on."""

    def silence(self, ask: SilenceAsk, *, actor: str) -> Silence:
        """Keep receivers from being told of some alerts."""

    def unsilence(self, id_: str, *, actor: str) -> None:
        """End a silence."""

    def receivers(self) -> list[ReceiverStatus]:
        """Say what became of the notices for each receiver."""

    async def test(self, name: str, *, actor: str) -> ReceiverTest:
        """Send a receiver a test alert now."""


class Door(MeshDoor, ServiceDoor, Protocol):
    """Everything that people can change."""
