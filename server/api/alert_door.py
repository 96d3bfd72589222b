"""What people can ask of alerts, and what the server answers: the bodies, and who does it."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from analytics.measurement import text, whole
from server.alerts.model import Alert, Matcher, ReceiverStatus, Silence

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

    def alerts(self, since_us: int | None, limit: int, *, at_us: int | None = None) -> AlertList:
        """List those that are open, or were at a past moment, and those that were over since then."""

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
