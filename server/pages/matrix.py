"""The matrix: everyone to everyone, drawn from packed cells by ``server/static/matrix.js``."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from analytics.overview import Metric
from server.api.access import Scope, TheCore, needs
from server.api.problem import ProblemError
from server.pages import matrix_view
from server.pages.frame import TheFrame
from server.pages.render import fragment, page

Chosen = Annotated[Metric, Query(description="what the cells say")]
Agent = Annotated[str, Query(max_length=64, description="an agent's name")]


def router() -> APIRouter:
    """Build the routes of the matrix; they are not part of the API."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/matrix")
    def matrix(core: TheCore, frame: TheFrame, metric: Chosen = Metric.LETTER) -> HTMLResponse:
        agents = len(core.members())
        small = agents <= matrix_view.TABLE_MOST
        cells = core.matrix(frame.profile, metric, frame.at_us) if small else None
        return page(
            "matrix.html",
            frame,
            agents=agents,
            metric=metric,
            titles=matrix_view.TITLES,
            legends=LEGENDS,
            data=matrix_view.script_data(),
            names=cells.agents if cells else [],
            table=matrix_view.table(cells) if cells else None,
            sites=None if small else matrix_view.site_table(core.sites(frame.profile, frame.at_us)),
        )

    @routes.get("/matrix/cell")
    def cell(core: TheCore, frame: TheFrame, src: Agent, dst: Agent) -> HTMLResponse:
        known = {member.name for member in core.members()}
        found = (
            core.detail(src, dst, frame.profile, frame.at_us, sessions=False)
            if {src, dst} <= known and src != dst
            else None
        )
        if found is None:
            raise ProblemError(404, f"no reading of {src} -> {dst}", remedy="the matrix names the agents")
        return fragment("matrix_cell.html", frame, row=found.forward)

    return routes


LEGENDS: Final = {metric: matrix_view.legend(metric) for metric in Metric}
