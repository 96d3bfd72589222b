"""What the pages, the read API and the command line need of the server: one protocol, nothing else.

``server.core.Core`` provides it. Every method is plain (not a coroutine), may take a while, and must be safe
to call from several threads at once: routes are plain functions, which FastAPI runs in worker threads, so
that heavy work never sits on the event loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from analytics.compare import Comparison
from analytics.explain import Explanation
from analytics.measurement import Flow
from analytics.overview import (
    AGENT_PATHS_SHOWN,
    WORST_SHOWN,
    AgentPaths,
    MatrixCells,
    Metric,
    Overview,
    SitePaths,
    Worst,
)
from analytics.passive import Applications
from analytics.receipt_file import Header, Line
from analytics.report import Member, PathDetail, Report, Service
from analytics.sla import Month, SlaReport
from analytics.timeline import Timeline
from analytics.usage import By
from analytics.wire import LocalOff
from server.api.agent_info import AgentInfo, Listener
from server.api.audits import AuditAsk, AuditEntry

if TYPE_CHECKING:
    from analytics.exports import Batches  # loads the engine, which a command does not need
    from server.proofs import Proof  # as that

DEFAULT_PROFILE: Final = "generic"
"""What paths are graded for where no agent offers a service."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How far the server is: what ``GET /v1/status`` answers."""

    version: str
    started_us: int  # when this server process started
    agents_enrolled: int
    agents_online: int
    agents_off: int = 0  # active tests are switched off for them, their sites or the fleet
    off_there: dict[str, LocalOff] = {}  # some of them: agent -> by whom on its own host
    passive_off_there: dict[str, LocalOff] = {}  # agents whose passive capture is, likewise: some of them
    paths_expected: int  # directed pairs of the agents that take part in the mesh
    paths_barred: int = 0  # directed pairs that the policy does not allow now: not expected
    paths_measured: int  # of them, those with a reading (an unreachable one counts: it was tried)
    cycle: int | None  # start of the running or the latest cycle, s since 1970; None = none yet
    cycle_running: bool
    cycle_s: int = 300  # from the start of one cycle to the start of the next
    paths_put_off: int = (
        0  # directed pairs that the budget had no room for in this cycle: they wait their turn
    )
    cycles_for_all: int = 1  # cycles like this one that visit every path
    paths_watched: int = 0  # directed paths that are tested between cycles, too
    paths_not_watched: int = 0  # marked or changed, but the agents' budgets have no room to watch them
    rows: dict[str, int] = {}  # fact table -> rows kept
    store: dict[str, int] = {}  # what happened to the store since it was opened: ``StoreHealth``


TROUBLES: Final = {
    "damaged_segments": "damaged spool segments",
    "frames_set_aside": "batches in the spool that did not read",
    "files_set_aside": "files set aside",
    "upkeep_failures": "failed steps of the upkeep",
}
"""What of the store's health somebody should look at."""


@dataclass(frozen=True, slots=True)
class ExportRange:
    """What of the facts or of the report an export has."""

    since_us: int | None = None  # None: of paths, the latest of each; else a day before ``until_us``
    until_us: int | None = None  # None: now
    agents: frozenset[str] | None = None  # with one of these at an end; None = all
    profile_named: bool = False  # grades: only of the profile


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRange:
    """Of which readings the receipts are asked for."""

    since_us: int | None = None  # None: a day before ``until_us``
    until_us: int | None = None  # None: now
    agents: frozenset[str] | None = None  # with one of these at an end; None = all
    src: str | None = None
    dst: str | None = None
    words: str = ""  # what was asked for, as the file says it


class ReportCore(Protocol):
    """The server as its readers see it."""

    def status(self) -> Status:
        """Say how far the server is."""

    def profiles(self) -> list[str]:
        """Name the application profiles that the rules know, in the order a page offers them."""

    def members(self, at_us: int | None = None) -> list[Member]:
        """List the enrolled agents, by name; of the past, those of then (``analytics/then.py``)."""

    def agents(self) -> list[AgentInfo]:
        """Tell what is known of each agent now, by name."""

    def agent(self, name: str) -> AgentInfo | None:
        """Tell what is known of one agent now; None where none is called so."""

    def listeners(self) -> list[Listener]:
        """List ports of agents' hosts that sessions ended at lately, those with the most clients first."""

    def report(self, profile: str, at_us: int | None = None) -> Report:
        """Grade every path for a profile that ``profiles`` names, now or as it was at ``at_us``.

        Of a large fleet, ``paths`` are the worst few thousand and ``paths_of`` says of how many. Pages ask
        what follows, which is bounded, and kept ready.
        """

    def revision(self, profile: str) -> str:
        """Name what is shown of a profile now; another name where anything but ages is different. Cheap."""

    def overview(self, profile: str, at_us: int | None = None) -> Overview:
        """Show a fleet on one page."""

    def sites(self, profile: str, at_us: int | None = None) -> list[SitePaths]:
        """Count paths by pair of sites, those with the most bad ones first."""

    def matrix(self, profile: str, metric: Metric, at_us: int | None = None) -> MatrixCells:
        """Pack one metric of all paths."""

    def agent_paths(
        self, agent: str, profile: str, at_us: int | None = None, limit: int = AGENT_PATHS_SHOWN
    ) -> AgentPaths:
        """List one agent's paths both ways, worst first. Empty for a name that nobody has."""

    def worst(
        self, profile: str, limit: int = WORST_SHOWN, start: int = 0, at_us: int | None = None
    ) -> Worst:
        """List the worst paths, in pieces: ``start`` is ``next`` of the piece before."""

    def detail(
        self, src: str, dst: str, profile: str, at_us: int | None = None, *, sessions: bool = True
    ) -> PathDetail | None:
        """Tell all of one path, the applications' ``sessions`` too unless those are not wanted.

        None where the pair has no reading of ``src`` by then.
        """

    def explain(self, src: str, dst: str, profile: str, at_us: int | None = None) -> Explanation | None:
        """Derive the letter of a path, now or as it was at ``at_us``; None where there is no reading."""

    def compare(self, profile: str, before_us: int, after_us: int | None = None) -> Comparison:
        """Put the report of an earlier moment beside that of a later one (now if None)."""

    def sla(self, service: Service, month: Month) -> SlaReport:
        """Count a month of a service: time by letter, incidents, causes, owners (``analytics/sla.py``)."""

    def signed(self, body: bytes) -> bytes:
        """Sign a document by the server's key (``analytics.trust.check_statement``)."""

    def signing_key(self) -> bytes:
        """Give the public half of that key (Ed25519)."""

    def timeline(
        self,
        src: str,
        dst: str,
        profile: str,
        *,
        since_us: int | None = None,
        until_us: int | None = None,
        step_us: int | None = None,
    ) -> Timeline:
        """Lay a path out over time, by default the day before ``until_us`` (now if None)."""

    def flows(
        self,
        *,
        agent: str | None = None,
        process: str | None = None,
        remote: str | None = None,
        but: str | None = None,
        at_us: int | None = None,
        limit: int = 200,
    ) -> list[Flow]:
        """List passive flows of a day, newest first; filters match exactly; process ``but`` is left out."""

    def applications(
        self,
        by: By,
        *,
        agent: str | None = None,
        but: str | None = None,
        at_us: int | None = None,
        limit: int = 200,
    ) -> Applications:
        """Grade what the applications' sessions of a day saw, worst first; ``but`` is left out."""

    def export(self, table: str, profile: str, chosen: ExportRange) -> Batches:
        """Give the rows of an export: one of ``analytics.exports.TABLES``."""

    def receipts(self, chosen: ReceiptRange) -> tuple[Header, Iterator[Line]]:
        """Give readings with what both ends signed of them, oldest first (``analytics/receipt_file.py``)."""

    def proofs(self, src: str, dst: str, at_us: int | None = None) -> list[Proof]:
        """Say who signed the latest test of each direction between two agents; empty where there is none."""

    def audit(self, ask: AuditAsk) -> list[AuditEntry]:
        """List the audit rows that fit, newest first."""

    def audit_file(self) -> Iterator[bytes]:
        """Give the audit chains as a file (``server.audit_file``). Raises ``AuditBrokenError``."""

    def audit_actions(self) -> list[str]:
        """Name what people did so far, by alphabet."""


OWN_PROCESS: Final = "pathgrade"
"""The agents' own sessions, to the server: left out of what people look at unless they ask."""


def default_profile(core: ReportCore) -> str:
    """Choose the profile to show when nobody asked for one: that of the fleet's first service."""
    known = core.profiles()
    offered = (service.profile for member in core.members() for service in member.services)
    return next((profile for profile in offered if profile in known), DEFAULT_PROFILE)
