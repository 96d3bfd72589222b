"""The read API: what the pages show, as JSON. The command line uses it and has no other door.

Bodies are the structs of ``analytics.report`` and ``server.api.core``, encoded by msgspec; errors are
problem+json. Routes are plain functions, so FastAPI runs them in worker threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import chain
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from analytics.explain import Explanation
from analytics.measurement import Letter
from analytics.passive import MOST_GROUPS
from analytics.report import PathDetail, Report
from analytics.usage import By
from analytics.written import MEDIA_TYPES, written
from server.api.access import Scope, TheCore, needs
from server.api.core import ExportRange, ReportCore, default_profile
from server.api.exported import TheExport
from server.api.listed import listed
from server.api.moments import At, read_moment
from server.api.problem import ProblemError

MOST_ROWS: Final = 5_000
"""Of one answer. Whoever wants more takes the export."""

HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Table(StrEnum):
    """What can be exported: ``analytics.exports.TABLES``."""

    PATHS = "paths"
    HOPS = "hops"
    FLOWS = "flows"
    GRADES = "grades"
    RECEIPTS = "receipts"
    FINDINGS = "findings"


class Format(StrEnum):
    """Formats of an export: ``analytics.written.FORMATS``."""

    PARQUET = "parquet"
    CSV = "csv"
    ARROW = "arrow"


Profile = Annotated[str | None, Query(max_length=63, description="application profile; default: the fleet's")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="at most so many rows")]
Moment = Annotated[int | None, Query(ge=0, le=2**53, description="us since 1970; default: now")]
Letters = Annotated[
    list[Letter], Query(max_length=len(Letter), description="with one of these; default: any")
]
Filter = Annotated[str | None, Query(max_length=64, description="must match exactly")]


def router() -> APIRouter:
    """Build the routes under ``/v1``."""
    routes = APIRouter(prefix="/v1", tags=["read"], dependencies=[needs(Scope.READ)])
    _add_fleet(routes)
    _add_paths(routes)
    _add_export(routes)
    return routes


def _add_fleet(routes: APIRouter) -> None:
    @routes.get("/status", summary="How far the server is")
    def status(core: TheCore) -> Response:
        return _json(core.status())

    @routes.get("/agents", summary="The enrolled agents")
    def agents(core: TheCore, at: At = None, site: Filter = None, tag: Filter = None) -> Response:
        known = core.members(read_moment("at", at))
        return _json([m for m in known if site in (None, m.site) and (tag is None or tag in m.tags)])

    @routes.get("/profiles", summary="The application profiles, the default one first")
    def profiles(core: TheCore) -> Response:
        default = default_profile(core)
        return _json(sorted(core.profiles(), key=lambda profile: profile != default))

    @routes.get("/flows", summary="Passive TCP sessions by process and remote service, newest first")
    def flows(
        *,
        core: TheCore,
        agent: Filter = None,
        process: Filter = None,
        remote: Filter = None,
        but: Filter = None,
        at: At = None,
        start: Annotated[int, Query(ge=0, le=MOST_ROWS, description="leave out so many that fit")] = 0,
        limit: Limit = 200,
    ) -> Response:
        at_us, most = read_moment("at", at), start + limit
        asked = {"agent": agent, "process": process, "remote": remote, "but": but}
        return _json(core.flows(**asked, at_us=at_us, limit=most)[start:])

    @routes.get("/applications", summary="Letters of processes or destinations by their own TCP sessions")
    def applications(
        *,
        core: TheCore,
        by: By = By.PROCESS,
        agent: Filter = None,
        but: Filter = None,
        at: At = None,
        limit: Annotated[int, Query(ge=1, le=MOST_GROUPS, description="at most so many rows")] = 200,
    ) -> Response:
        at_us = read_moment("at", at)
        return _json(core.applications(by, agent=agent, but=but, at_us=at_us, limit=limit))


def _add_paths(routes: APIRouter) -> None:
    @routes.get("/verdict", summary="The sentence, and the sentences under it")
    def verdict(core: TheCore, profile: Profile = None, at: At = None) -> Response:
        return _json(report_of(core, profile, read_moment("at", at)).verdict)

    @routes.get(
        "/paths", summary="The report: verdict, directed paths worst first (all, or a piece), members"
    )
    def paths(
        *,
        core: TheCore,
        profile: Profile = None,
        at: At = None,
        agent: Filter = None,
        site: Filter = None,
        letter: Letters = [],  # noqa: B006  # FastAPI copies it for each request
        start: Annotated[int, Query(ge=0, le=10**6, description="leave out so many that fit")] = 0,
        limit: Annotated[int | None, Query(ge=1, le=MOST_ROWS, description="at most so many")] = None,
    ) -> Response:
        made = report_of(core, profile, read_moment("at", at))
        agents = _agents(core, agent, site)
        return _json(listed(made, agents=agents, letters=letter, start=start, limit=limit))

    @routes.get("/paths/{src}/{dst}", summary="One path: both directions, hops, passive flows")
    def path(core: TheCore, src: str, dst: str, profile: Profile = None, at: At = None) -> Response:
        return _json(detail_of(core, src, dst, profile, read_moment("at", at)))

    @routes.get("/paths/{src}/{dst}/explain", summary="Why a path has its letter: every step, with its rule")
    def explain(
        *,
        core: TheCore,
        src: str,
        dst: str,
        profile: Profile = None,
        at: At = None,
        at_us: Moment = None,
    ) -> Response:
        chosen = at_us if at is None else read_moment("at", at)
        return _json(explanation_of(core, src, dst, profile, chosen))


def _add_export(routes: APIRouter) -> None:
    @routes.get("/export/{table}", summary="Rows as a file; columns: docs/schema.md")
    def table_file(
        *,
        core: TheCore,
        export: TheExport,
        table: Table,
        format: Format = Format.PARQUET,
        profile: Profile = None,
        since_us: Moment = None,
        until_us: Moment = None,
        agent: Filter = None,
        site: Filter = None,
    ) -> Response:
        graded_for = profile_of(core, profile)
        chosen = ExportRange(
            since_us, until_us, _agents(core, agent, site), profile_named=profile is not None
        )
        made = core.export(table.value, graded_for, chosen)
        # Parquet and Arrow are compressed, or made to be read at once: no second compression.
        name = f"pathgrade-{table.value}-{graded_for}.{format.value}"
        named = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Encoding": "identity"}
        pieces = begun(written(made.schema, made.batches, format.value))
        pieces = export.counted(f"{table.value} {format.value}", pieces)
        return StreamingResponse(pieces, media_type=MEDIA_TYPES[format.value], headers={**HEADERS, **named})


def begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Make the first piece at once: what fails then is an answer of its own, not one that breaks off."""
    first = next(pieces, b"")
    return chain([first], pieces)


def _agents(core: ReportCore, agent: str | None, site: str | None) -> frozenset[str] | None:
    """Those agents that are asked for; raises ``ProblemError`` (404) where there is none of that name."""
    members = core.members()
    if agent is not None and agent not in {member.name for member in members}:
        raise ProblemError(404, f"no agent is called {agent!r}", remedy="pathgrade paths names them")
    sites = sorted({member.site for member in members})
    if site is not None and site not in sites:
        raise ProblemError(404, f"no site is called {site!r}", remedy=f"one of: {', '.join(sites)}")
    if agent is None and site is None:
        return None
    return frozenset(m.name for m in members if agent in (None, m.name) and site in (None, m.site))


def report_of(core: ReportCore, profile: str | None, at_us: int | None = None) -> Report:
    """Grade for a profile, the fleet's default if None; raises ``ProblemError`` (404) for an unknown one."""
    return core.report(profile_of(core, profile), at_us)


def detail_of(
    core: ReportCore,
    src: str,
    dst: str,
    profile: str | None,
    at_us: int | None = None,
    *,
    sessions: bool = True,
) -> PathDetail:
    """Tell all of one path, or all but the sessions.

    Raises ``ProblemError`` (404) saying which part of the question is unknown.
    """
    check_agents(core, src, dst)
    graded_for = profile_of(core, profile)
    detail = core.detail(src, dst, graded_for, at_us, sessions=sessions) if src != dst else None
    if detail is None:
        raise _no_reading(src, dst, at_us)
    return detail


def explanation_of(
    core: ReportCore, src: str, dst: str, profile: str | None, at_us: int | None = None
) -> Explanation:
    """Derive the letter of one path; raises as ``detail_of``."""
    check_agents(core, src, dst)
    found = core.explain(src, dst, profile_of(core, profile), at_us) if src != dst else None
    if found is None:
        raise _no_reading(src, dst, at_us)
    return found


def check_agents(core: ReportCore, *names: str) -> None:
    """Raise ``ProblemError`` (404) unless all are enrolled."""
    known = [member.name for member in core.members()]
    for name in names:
        if name not in known:
            raise ProblemError(
                404,
                f"no agent is called {name!r}",
                remedy=f"one of: {', '.join(known)}" if known else "enrol an agent: pathgrade server token",
            )


def _no_reading(src: str, dst: str, at_us: int | None = None) -> ProblemError:
    if at_us is not None and src != dst:
        return ProblemError(
            404,
            f"no reading of {src} -> {dst} by then",
            detail="The pair was not tested before, or so long ago that its readings are gone.",
            remedy="name a later moment, or none for now",
        )
    return ProblemError(
        404,
        f"no reading of {src} -> {dst} yet",
        detail="An agent has no path to itself." if src == dst else "The pair has not been tested.",
        remedy="pathgrade status shows whether a cycle is running",
    )


def profile_of(core: ReportCore, asked: str | None) -> str:
    """Check a profile that was asked for, or choose one; raises ``ProblemError`` (404) for an unknown one."""
    if asked is None:
        return default_profile(core)
    known = core.profiles()
    if asked not in known:
        raise ProblemError(404, f"no profile is called {asked!r}", remedy=f"one of: {', '.join(known)}")
    return asked


def answered(value: object) -> Response:
    """Answer with a struct of the vocabulary, or a list of them."""
    return Response(_encode(value), media_type="application/json", headers=HEADERS)


_json: Final = answered
_encode: Final[Callable[[object], bytes]] = msgspec.json.Encoder().encode
