"""One path: both directions, where the time is, why it has its letter, and a test now; and how it was.

How it was, what the applications saw and who signed takes longer to find out: the page is there first, and
asks for it.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from analytics.clock import now_us
from analytics.timeline import Timeline
from server.api.access import Scope, TheCore, TheDesk, needs
from server.api.core import ReportCore
from server.api.doors import MeshRun
from server.api.problem import ProblemError
from server.api.routes import check_agents, detail_of, explanation_of
from server.pages import proof_words, timeline_view
from server.pages.explained import sections
from server.pages.frame import Frame, TheFrame
from server.pages.render import fragment, page
from server.pages.timeline_view import RANGES, US_PER_S
from server.pages.views import path_view

USUAL_RANGE: Final = "24h"

Range = Annotated[str, Query(max_length=8, description="how far back the timeline goes")]
RunId = Annotated[str, Query(max_length=32, description="a test on demand that is shown")]


def router() -> APIRouter:
    """Build the route."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/paths/{src}/{dst}")
    def path(
        *,
        core: TheCore,
        desk: TheDesk,
        frame: TheFrame,
        src: str,
        dst: str,
        range: Range = USUAL_RANGE,
        run: RunId = "",
    ) -> HTMLResponse:
        profile, at_us = frame.profile, frame.at_us
        detail = detail_of(core, src, dst, profile, at_us, sessions=False)
        return page(
            "path.html",
            frame,
            view=path_view(detail, profile),
            steps=sections(explanation_of(core, src, dst, profile, at_us)),
            profile=profile,
            ranges=[*RANGES],
            back_to=_back_to(range),
            run=desk.run_of(run, 0) if run else None,
            run_of=(src, dst),
            now_us=frame.now_us,
        )

    @routes.get("/paths/{src}/{dst}/timeline")
    def timeline(
        *,
        core: TheCore,
        frame: TheFrame,
        src: str,
        dst: str,
        range: Range = USUAL_RANGE,
        part: bool = False,
    ) -> HTMLResponse:
        check_agents(core, src, dst)
        shown = _timeline(core, src, dst, frame, RANGES[_back_to(range)])
        return page(
            "timeline_part.html" if part else "timeline.html",
            frame,
            timeline=shown,
            drawing=timeline_view.drawing(shown),
            history=timeline_view.told(shown),
            ranges=[*RANGES],
            back_to=_back_to(range),
        )

    @routes.get("/paths/{src}/{dst}/sessions")
    def sessions(*, core: TheCore, frame: TheFrame, src: str, dst: str, part: bool = False) -> HTMLResponse:
        detail = detail_of(core, src, dst, frame.profile, frame.at_us)
        named = "sessions_part.html" if part else "sessions.html"
        return page(named, frame, src=src, dst=dst, flows=detail.flows)

    @routes.get("/paths/{src}/{dst}/signed")
    def signed(core: TheCore, frame: TheFrame, src: str, dst: str, part: bool = False) -> HTMLResponse:
        check_agents(core, src, dst)
        named = "proofs_part.html" if part else "proofs.html"
        proofs = core.proofs(src, dst, frame.at_us)
        return page(named, frame, src=src, dst=dst, proofs=proofs, words=proof_words)

    @routes.get("/paths/{src}/{dst}/run")
    def progress(*, desk: TheDesk, src: str, dst: str, run: RunId) -> HTMLResponse:
        found = desk.run_of(run, 0)
        if found is None:
            raise ProblemError(404, "This test is not known any more", remedy="test again")
        return run_part(found, src, dst)

    return routes


def run_part(run: MeshRun, src: str, dst: str) -> HTMLResponse:
    """Say how far a test on demand is, where its path's page says so."""
    return fragment("run_part.html", run=run, run_of=(src, dst), now_us=now_us())


def _back_to(asked: str) -> str:
    return asked if asked in RANGES else USUAL_RANGE


def _timeline(core: ReportCore, src: str, dst: str, frame: Frame, back_s: int) -> Timeline:
    until_us = frame.at_us
    if until_us is None:
        latest = core.timeline(src, dst, frame.profile)
        if back_s == RANGES[USUAL_RANGE]:
            return latest
        until_us = latest.until_us
    return core.timeline(
        src, dst, frame.profile, since_us=max(0, until_us - back_s * US_PER_S), until_us=until_us
    )
