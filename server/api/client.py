"""The read API from the other side: what the command line knows of a running server."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TextIO, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from analytics import words
from analytics.compare import Comparison
from analytics.errors import UNREADABLE, ExportError
from analytics.explain import Explanation
from analytics.measurement import Flow
from analytics.overview import Metric
from analytics.passive import Applications
from analytics.policy import Policy, PolicyRules
from analytics.report import Member, PathDetail, Report, Service, Verdict
from analytics.sla import SlaReport
from server.alerts.model import Alert, ReceiverStatus, Silence
from server.api.agent_info import AgentInfo
from server.api.alert_door import AckAsk, AlertList, ReceiverTest, SilenceAsk, TestAsk
from server.api.audits import AuditEntry
from server.api.connection import TIMEOUT_S, ApiConnection, Parameter
from server.api.controls import BudgetAsk, Budgets, MeshSwitches, SwitchAsk, TagsAsk
from server.api.core import Status
from server.api.doors import Mark, MeshAsk, MeshRun, ServiceTag
from server.api.listed import PathList
from server.api.packed import Head, unpacked
from server.api.policy_door import PolicyCheck, etag_of
from server.api.sla_shapes import SIGNATURE, SlaKey
from server.errors import RefusedError

EXPORT_TIMEOUT_S: Final = 300.0
"""Between two pieces: sorting a day of a thousand agents takes its time."""

T = TypeVar("T")


class SignedReport(NamedTuple):
    """A report, the bytes that are signed, and the signature (base64)."""

    body: bytes
    signature: str
    report: SlaReport


class Client:
    """One server, asked over one connection. Raises ``ServerAwayError`` and ``RefusedError``."""

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        self.connection = ApiConnection(url, token, timeout_s=timeout_s)

    def status(self) -> Status:
        """How far the server is."""
        return self._get("status", Status)

    def agents(self, **asked: Parameter) -> list[Member]:
        """The enrolled agents, by name."""
        return self._get("agents", list[Member], **asked)

    def verdict(self, profile: str | None) -> Verdict:
        """The sentence, and the sentences under it."""
        return self._get("verdict", Verdict, profile=profile)

    def agent(self, name: str) -> AgentInfo:
        """All of one agent but for its paths."""
        return self._get(f"agents/{quote(name, safe='')}", AgentInfo)

    def audit(self, **asked: Parameter) -> list[AuditEntry]:
        """Who did what to whom, newest first."""
        return self._get("audit", list[AuditEntry], **asked)

    def report(self, profile: str | None) -> Report:
        """Every directed path, worst first, with the verdict."""
        return self._get("paths", Report, profile=profile)

    def paths(self, **asked: Parameter | Sequence[str]) -> PathList:
        """A piece of the ranked list of paths that fit, with the verdict."""
        return self._get("paths", PathList, **asked)

    def letters(self, **asked: Parameter) -> tuple[Head, bytes]:
        """The letter of every path: the agents by site, and the cells. Raises ``WireError``, too."""
        return unpacked(self.connection.get("matrix", {**asked, "metric": Metric.LETTER.value}).content)

    def detail(self, src: str, dst: str, profile: str | None) -> PathDetail:
        """All of one path."""
        return self._get(f"paths/{quote(src, safe='')}/{quote(dst, safe='')}", PathDetail, profile=profile)

    def explain(self, src: str, dst: str, **asked: Parameter) -> Explanation:
        """Why a path has its letter."""
        return self._get(f"paths/{quote(src, safe='')}/{quote(dst, safe='')}/explain", Explanation, **asked)

    def flows(self, **asked: Parameter) -> list[Flow]:
        """Passive flows, newest first."""
        return self._get("flows", list[Flow], **asked)

    def applications(self, **asked: Parameter) -> Applications:
        """What the applications' own sessions saw, graded, worst first."""
        return self._get("applications", Applications, **asked)

    def compare(self, before_us: int, after_us: int | None, profile: str | None) -> Comparison:
        """What changed between two moments."""
        return self._get("diff", Comparison, before=before_us, after=after_us, profile=profile)

    def sla(self, service: str | None, month: str | None, profile: str | None) -> SignedReport:
        """A month of a service, as it was signed."""
        answer = self.connection.get("sla", {"service": service, "month": month, "profile": profile})
        signature = answer.headers.get(SIGNATURE, "")
        return SignedReport(answer.content, signature, _read(answer, SlaReport))

    def receipts(self, out: Path, **asked: Parameter) -> int:
        """Write readings with their receipts to ``out``, whole or not at all; gives its bytes."""
        with writing_whole(out) as file:
            return self._stream_to(file, "receipts", asked)

    def sla_key(self) -> str:
        """The public key that reports are signed with."""
        return self._get("sla/key", SlaKey).key

    def run_mesh(self, ask: MeshAsk) -> MeshRun:
        """Start tests on demand."""
        return self._post("mesh/runs", ask, MeshRun)

    def mesh_run(self, id_: str, *, since: int) -> MeshRun:
        """How far they are, with the results from number ``since`` on."""
        return self._get(f"mesh/runs/{quote(id_, safe='')}", MeshRun, since=since)

    def marks(self) -> list[Mark]:
        """What is marked as important."""
        return self._get("mesh/marks", list[Mark])

    def mark(self, mark: Mark) -> list[Mark]:
        """Mark or unmark; gives what is marked then."""
        return self._post("mesh/marks", mark, list[Mark])

    def switches(self) -> MeshSwitches:
        """What is switched off."""
        return self._get("mesh/switches", MeshSwitches)

    def switch(self, ask: SwitchAsk) -> MeshSwitches:
        """Switch active tests on or off; gives what is off then."""
        return self._post("mesh/switches", ask, MeshSwitches)

    def tags(self, agent: str) -> list[str]:
        """An agent's tags."""
        return self._get(f"agents/{quote(agent, safe='')}/tags", list[str])

    def tag_agent(self, agent: str, ask: TagsAsk) -> list[str]:
        """Put tags on an agent and take tags off; gives its tags then."""
        return self._post(f"agents/{quote(agent, safe='')}/tags", ask, list[str])

    def budgets(self) -> Budgets:
        """What active tests may take."""
        return self._get("budgets", Budgets)

    def budget(self, ask: BudgetAsk) -> Budgets:
        """Set or unset a budget; gives what is set then."""
        return self._post("budgets", ask, Budgets)

    def policy(self) -> Policy:
        """Who may test whom, when and how much."""
        return self._get("policy", Policy)

    def set_policy(self, asked: PolicyRules, seen: Policy) -> Policy:
        """Set the policy in place of one that was seen; gives what is in force then."""
        body = msgspec.json.encode(asked)
        return _read(self.connection.put("policy", body, if_match=etag_of(seen)), Policy)

    def policy_check(self, src: str, dst: str, at: str | None) -> PolicyCheck:
        """Whether two agents may test each other."""
        return self._get("policy/check", PolicyCheck, src=src, dst=dst, at=at)

    def services(self) -> list[Service]:
        """What agents offer and what was tagged."""
        return self._get("services", list[Service])

    def tag(self, tag: ServiceTag) -> list[Service]:
        """Tag a port, or take its tag off; gives what there is then."""
        return self._post("services", tag, list[Service])

    def alerts(self, since_us: int | None) -> AlertList:
        """Open alerts, the worst first, and those that were over since then."""
        return self._get("alerts", AlertList, since=since_us)

    def acknowledge(self, id_: str, ask: AckAsk) -> Alert:
        """Say that somebody has seen an alert."""
        return self._post(f"alerts/{quote(id_, safe='')}/ack", ask, Alert)

    def silence(self, ask: SilenceAsk) -> Silence:
        """Keep receivers from being told of some alerts."""
        return self._post("silences", ask, Silence)

    def unsilence(self, id_: str) -> None:
        """End a silence."""
        self.connection.delete(f"silences/{quote(id_, safe='')}")

    def receivers(self) -> list[ReceiverStatus]:
        """Who is told of alerts, and what became of it."""
        return self._get("alerts/receivers", list[ReceiverStatus])

    def test_receiver(self, name: str) -> ReceiverTest:
        """Send a receiver a test alert now."""
        return self._post(f"alerts/receivers/{quote(name, safe='')}/test", TestAsk(), ReceiverTest)

    def export(self, out: Path, table: str, **asked: Parameter) -> int:
        """Write an export to ``out``, whole or not at all; gives its bytes. A terminal sees how far it is."""
        with writing_whole(out) as file:
            return self.export_to(file, table, **asked)

    def audit_file(self, out: Path) -> int:
        """Write the audit chains to ``out``, whole or not at all; gives its bytes."""
        with writing_whole(out) as file:
            return self._stream_to(file, "audit/export", {})

    def export_to(self, file: BinaryIO, table: str, **asked: Parameter) -> int:
        """Write an export as it comes."""
        return self._stream_to(file, f"export/{table}", asked)

    def _stream_to(self, file: BinaryIO, path: str, asked: Mapping[str, Parameter]) -> int:
        size = 0
        with self.connection.stream(path, asked, timeout_s=EXPORT_TIMEOUT_S) as answer:
            for piece in answer.iter_bytes():
                size += file.write(piece)
                _say_size(size, sys.stderr)
        _say_size(size, sys.stderr, end="\n")
        return size

    def _get(self, path: str, kind: type[T], **asked: Parameter | Sequence[str]) -> T:
        return _read(self.connection.get(path, asked), kind)

    def _post(self, path: str, body: msgspec.Struct, kind: type[T]) -> T:
        return _read(self.connection.post(path, msgspec.json.encode(body)), kind)


def _read(answer: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except UNREADABLE as error:
        raise RefusedError(
            f"{answer.request.method} {answer.url}: not the answer of a pathgrade server of this version"
            f" ({error})",
            remedy="check --url, and that command and server are of one version",
        ) from error


@contextmanager
def writing_whole(out: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name when all of it is written. Raises ``ExportError``."""
    unfinished = out.with_name(out.name + ".tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(out)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise ExportError(
            f"write {out}: {error.strerror}", remedy="name a file in a folder that can be written"
        ) from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _say_size(size: int, progress: TextIO, end: str = "") -> None:
    """Overwrite the line in a terminal; a log has no use for it."""
    if progress.isatty():
        print(f"\r{words.size(size)}", end=end, file=progress, flush=True)
