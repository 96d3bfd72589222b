"""The read API, over real sockets: what it answers, and how it says no."""

import base64
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import duckdb
import httpx
import msgspec
import pytest

from analytics.compare import Comparison
from analytics.errors import SealError
from analytics.explain import Explanation
from analytics.measurement import Flow
from analytics.overview import AgentPaths
from analytics.passive import Applications
from analytics.report import Member, PathDetail, Report, Verdict
from analytics.sla import SlaReport
from analytics.timeline import Timeline
from analytics.trust import check_statement, key_bytes
from server.api import description
from server.api.agent_info import AgentInfo, Listener
from server.api.audits import AuditEntry
from server.api.core import Status
from server.api.sla_shapes import KEY, SIGNATURE, SlaKey
from tests.unit.web.fleet import HEADLINE, FixtureCore, serve


@pytest.fixture(scope="module")
def api() -> Iterator[httpx.Client]:
    with serve(FixtureCore()) as url, httpx.Client(base_url=f"{url}/v1/") as client:
        yield client


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("status", Status),
        ("verdict", Verdict),
        ("paths", Report),
        ("paths?at=2026-11-23T19:00Z", Report),
        ("verdict?at=2h", Verdict),
        ("paths/radiologist/pacs?at=09:45", PathDetail),
        ("paths/radiologist/pacs/explain?at=1795464000000000", Explanation),
        ("agents?at=2026-11-23", list[Member]),
        ("flows?at=2026-11-23T20:00Z", list[Flow]),
        ("applications?at=7d", Applications),
        ("paths/radiologist/pacs", PathDetail),
        ("paths/radiologist/pacs/explain", Explanation),
        ("paths/pacs/radiologist/explain?at_us=1795464000000000", Explanation),
        ("diff?before=2026-11-23T13:00Z&after=2026-11-23T20:00Z", Comparison),
        ("diff?before=2026-11-23T13:00Z", Comparison),
        ("sla", SlaReport),
        ("sla?service=PACS&month=2026-11", SlaReport),
        ("sla?service=pacs:4242&month=2026-11&profile=generic", SlaReport),
        ("sla/key", SlaKey),
        ("paths/radiologist/pacs/timeline", Timeline),
        (
            "paths/radiologist/pacs/timeline?since=1795442400000000&until=1795464000000000&step_s=900",
            Timeline,
        ),
        ("flows", list[Flow]),
        ("applications", Applications),
        ("applications?by=destination&agent=pacs", Applications),
        ("agents", list[Member]),
        ("agents?tag=radiology", list[Member]),
        ("agents/radiologist", AgentInfo),
        ("agents/radiologist/paths?profile=pacs&limit=3", AgentPaths),
        ("services/seen", list[Listener]),
        ("audit", list[AuditEntry]),
        ("audit?actor=ada&since=30d&tests=false&before=120", list[AuditEntry]),
        ("profiles", list[str]),
    ],
)
def test_every_body_is_a_struct_of_the_vocabulary(api: httpx.Client, path: str, kind: type) -> None:
    answer = api.get(path)

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    msgspec.json.decode(answer.content, type=kind, strict=True)


def test_without_a_profile_the_fleet_is_graded_for_its_service(api: httpx.Client) -> None:
    assert api.get("paths").json()["profile"] == "pacs"
    assert api.get("verdict").json()["headline"] == HEADLINE
    assert api.get("profiles").json() == ["pacs", "generic"]


def test_a_fleet_without_services_is_graded_generic() -> None:
    with serve(
        FixtureCore(fleet=[Member(name="a", site="a"), Member(name="b", site="b")], measured=False)
    ) as url:
        assert httpx.get(f"{url}/v1/paths").json()["profile"] == "generic"


def test_paths_come_worst_first_and_complete(api: httpx.Client) -> None:
    report = msgspec.json.decode(api.get("paths").content, type=Report)

    assert len(report.paths) == 30
    letters = [row.grade.letter.value for row in report.paths]
    assert letters == sorted(letters, key="XFDCBA?".index)
    assert all(sum(leg.rtt_us for leg in row.legs) == row.rtt_min_us for row in report.paths)


def test_flows_are_filtered_and_limited(api: httpx.Client) -> None:
    def processes(**asked: str) -> list[str]:
        return [flow["process"] for flow in api.get("flows", params=asked).json()]

    assert processes(agent="pacs") == ["Orthanc", "pathgrade"]
    assert processes(agent="pacs", but="pathgrade") == ["Orthanc"]
    assert api.get("flows", params={"process": "nobody"}).json() == []
    assert len(api.get("flows", params={"limit": 1}).json()) == 1


def test_applications_are_graded_by_process_and_by_destination(api: httpx.Client) -> None:
    def told(**asked: str | int) -> list[tuple[str, str, str]]:
        rows = api.get("applications", params=asked).json()["rows"]
        return [(row["grade"]["letter"], row["process"], row["remote_address"]) for row in rows]

    assert told(but="pathgrade") == [("D", "getscu", ""), ("A", "Orthanc", "")]
    assert told(by="destination") == [
        ("D", "", "198.51.100.66"),
        ("A", "", "198.51.100.130"),
        ("A", "", "203.0.113.20"),
    ]
    assert told(agent="radiologist") == [("D", "getscu", "")]
    assert told(limit=1) == [("D", "getscu", "")]
    assert api.get("applications", params={"limit": 1}).json()["is_cut"] is True


@pytest.mark.parametrize(
    ("path", "status", "title", "remedy"),
    [
        (
            "paths/nobody/pacs",
            404,
            "no agent is called 'nobody'",
            "one of: clinic, home, office-1, office-2, pacs, radiologist",
        ),
        (
            "paths/pacs/pacs",
            404,
            "no reading of pacs -> pacs yet",
            "pathgrade status shows whether a cycle is running",
        ),
        ("paths?profile=chess", 404, "no profile is called 'chess'", "one of: generic, pacs"),
        (
            "paths/pacs/pacs/explain",
            404,
            "no reading of pacs -> pacs yet",
            "pathgrade status shows whether a cycle is running",
        ),
        (
            "paths/pacs/clinic/explain?at_us=soon",
            422,
            "A parameter does not fit",
            "see /v1/openapi.json for bounds",
        ),
        ("applications?by=colour", 422, "A parameter does not fit", "see /v1/openapi.json for bounds"),
        ("applications?limit=1001", 422, "A parameter does not fit", "see /v1/openapi.json for bounds"),
        ("flows?limit=0", 422, "A parameter does not fit", "see /v1/openapi.json for bounds"),
        ("flows?limit=many", 422, "A parameter does not fit", "see /v1/openapi.json for bounds"),
        ("export/paths?format=xls", 422, "A parameter does not fit", "see /v1/openapi.json for bounds"),
        ("nothing", 404, "There is nothing at /v1/nothing", "the report is at /"),
    ],
)
def test_errors_are_problems_with_a_remedy(
    api: httpx.Client, path: str, status: int, title: str, remedy: str
) -> None:
    answer = api.get(path)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["status"], answer.json()["title"], answer.json()["remedy"]) == (
        status,
        title,
        remedy,
    )


def test_writing_is_refused(api: httpx.Client) -> None:
    answer = api.post("paths")

    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_fault_inside_is_one_problem() -> None:
    class Broken(FixtureCore):
        def status(self) -> Status:
            raise OSError("the disk is gone")

    with serve(Broken()) as url:
        answer = httpx.get(f"{url}/v1/status")

    assert answer.status_code == 500
    assert answer.json()["title"] == "The server could not make this"
    assert "disk" not in answer.text


def test_flows_come_in_pieces(api: httpx.Client) -> None:
    every = api.get("flows").json()
    assert len(every) > 1
    pieces = [api.get("flows", params={"start": at, "limit": 1}).json() for at in range(len(every) + 1)]
    assert pieces == [*([one] for one in every), []]


def test_the_openapi_document_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes 50 ms of the event loop, and anybody may ask for it."""
    made = Mock(wraps=description.described)
    monkeypatch.setattr(description, "described", made)
    with serve(FixtureCore()) as url, httpx.Client(base_url=f"{url}/v1/") as client:
        answers = [client.get("openapi.json") for _ in range(3)]
    assert made.call_count == 1
    assert answers[0].json() == answers[2].json()


def test_the_openapi_document_names_every_route(api: httpx.Client) -> None:
    assert sorted(api.get("openapi.json").json()["paths"]) == [
        "/v1/agents",
        "/v1/agents/{name}",
        "/v1/agents/{name}/paths",
        "/v1/agents/{name}/tags",
        "/v1/alerts",
        "/v1/alerts/receivers",
        "/v1/alerts/receivers/{name}/test",
        "/v1/alerts/{id}/ack",
        "/v1/applications",
        "/v1/audit",
        "/v1/audit.csv",
        "/v1/audit/export",
        "/v1/budgets",
        "/v1/diff",
        "/v1/events",
        "/v1/export/{table}",
        "/v1/flows",
        "/v1/matrix",
        "/v1/mesh/marks",
        "/v1/mesh/runs",
        "/v1/mesh/runs/{id}",
        "/v1/mesh/switches",
        "/v1/paths",
        "/v1/paths/{src}/{dst}",
        "/v1/paths/{src}/{dst}/explain",
        "/v1/paths/{src}/{dst}/timeline",
        "/v1/policy",
        "/v1/policy/check",
        "/v1/profiles",
        "/v1/receipts",
        "/v1/services",
        "/v1/services/seen",
        "/v1/settings",
        "/v1/silences",
        "/v1/silences/{id}",
        "/v1/sla",
        "/v1/sla/key",
        "/v1/status",
        "/v1/verdict",
    ]


def test_the_export_has_the_rows_of_the_page(api: httpx.Client, tmp_path: Path) -> None:
    report = msgspec.json.decode(api.get("paths").content, type=Report)
    for kind, media_type in (
        ("parquet", "application/vnd.apache.parquet"),
        ("csv", "text/csv; charset=utf-8"),
    ):
        answer = api.get("export/paths", params={"format": kind})
        file = tmp_path / f"paths.{kind}"
        file.write_bytes(answer.content)
        rows = duckdb.sql(
            "SELECT src, dst, letter, rung, rtt_p50_us, loss_bp, loss_back_bp, leg_source_access_us"
            f" FROM '{file}'"
        ).fetchall()

        assert answer.headers["content-type"] == media_type
        assert answer.headers["content-disposition"] == f'attachment; filename="pathgrade-paths-pacs.{kind}"'
        assert rows == [
            (
                row.src,
                row.dst,
                row.grade.letter.value,
                row.rung.value,
                row.rtt_p50_us,
                row.loss_bp,
                row.loss_back_bp,
                row.legs[1].rtt_us,
            )
            for row in report.paths
        ]


def test_an_export_leaves_no_file_behind(api: httpx.Client) -> None:
    def left() -> set[str]:
        return {path.name for path in Path(tempfile.gettempdir()).glob("pathgrade-*")}

    before = left()
    api.get("export/paths").raise_for_status()
    # The file goes after the last byte is sent: ask once more on the same connection.
    api.get("status")

    assert left() <= before


def test_the_audit_log_is_filtered_comes_in_pieces_and_as_a_table(api: httpx.Client) -> None:
    people = api.get("audit", params={"tests": "false"}).json()
    assert {row["action"] for row in people} == {"switch", "tags", "run", "budget", "enrol"}
    assert [row["subject"] for row in api.get("audit?actor=ada&action=tags").json()] == ["radiologist"]
    first = api.get("audit?limit=50").json()
    rest = api.get("audit", params={"limit": 5000, "before": first[-1]["id"]}).json()
    assert len(first) + len(rest) == 107
    table = api.get("audit.csv?actor=ada")
    assert table.headers["content-type"].startswith("text/csv")
    assert table.text.splitlines()[0] == "time,actor,action,subject,detail"
    assert "'+3rd floor, +radiology" in table.text  # a spreadsheet would take it for a formula


@pytest.mark.parametrize("path", ["agents/nobody", "agents/nobody/paths", "audit?since=never"])
def test_what_is_not_there_is_a_problem(api: httpx.Client, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code in {404, 422}
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["paths?at=yesterday", "paths/pacs/home?at=25%3A00", "agents?at=9999-01-01"])
def test_what_is_no_moment_is_said_with_examples(api: httpx.Client, path: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert "no moment" in answer.json()["title"]
    assert "09:45" in answer.json()["remedy"]


def test_a_report_of_the_past_is_of_that_moment(api: httpx.Client) -> None:
    assert api.get("paths", params={"at": "2026-11-23T19:00Z"}).json()["at_us"] == 1_795_460_400_000_000
    assert api.get("paths", params={"at": ""}).json()["at_us"] == 1_795_464_000_000_000


@pytest.mark.parametrize("asked", ["since=2026-11-24&until=2026-11-23", "since=x", "step_s=0"])
def test_a_timeline_of_no_range_is_refused(api: httpx.Client, asked: str) -> None:
    assert api.get(f"paths/radiologist/pacs/timeline?{asked}").status_code == 422


def test_a_timeline_of_nobody_is_none(api: httpx.Client) -> None:
    assert api.get("paths/radiologist/nobody/timeline").status_code == 404


def test_what_changed_between_two_moments_is_told_by_cause(api: httpx.Client) -> None:
    asked = {"before": "2026-11-23T13:00Z", "after": "2026-11-23T20:00Z"}
    told = msgspec.json.decode(api.get("diff", params=asked).content, type=Comparison)
    assert told.headline == ("10 paths are worse; 1 workplace can no longer work; 1 cause appeared.")
    (cause,) = told.causes
    assert (cause.kind, cause.where, cause.state, len(cause.changes)) == ("uplink", "hotel", "appeared", 10)
    assert told.others == []
    assert (told.lost, told.regained) == (["radiologist"], [])


@pytest.mark.parametrize("asked", ["", "before=", "before=x", "before=2h&after=3h", "before=2h&after=x"])
def test_two_moments_that_are_none_are_refused(api: httpx.Client, asked: str) -> None:
    assert api.get(f"diff?{asked}").status_code == 422


def test_an_sla_report_is_signed_byte_by_byte(api: httpx.Client) -> None:
    answer = api.get("sla", params={"service": "PACS", "month": "2026-11"})
    key = api.get("sla/key").json()["key"]
    assert answer.headers[KEY] == key
    signature = base64.b64decode(answer.headers[SIGNATURE])
    check_statement(answer.content, signature, key_bytes(key))
    with pytest.raises(SealError):
        check_statement(answer.content + b" ", signature, key_bytes(key))


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("service=EHR", 404),
        ("profile=none", 404),
        ("month=2026-13", 422),
        ("month=November", 422),
        ("month=2199-01", 422),
    ],
)
def test_a_report_of_nothing_is_refused(api: httpx.Client, asked: str, status: int) -> None:
    answer = api.get(f"sla?{asked}")
    assert (answer.status_code, answer.json()["remedy"] != "") == (status, True)


def test_a_fleet_without_a_service_has_no_report() -> None:
    with serve(FixtureCore(fleet=[Member(name="a", site="a")])) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/sla").status_code == 404
        page = client.get("/sla")
        assert (page.status_code, "There is no service yet" in page.text) == (200, True)
