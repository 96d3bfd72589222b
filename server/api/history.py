"""The read API over time: how a path was, beside how it is.

Routes are plain functions, as those of ``server/api/routes.py``.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from analytics.clock import now_us
from analytics.moments import EXAMPLES, moment_us
from analytics.timeline import Timeline
from server.api.access import Scope, TheCore, needs
from server.api.core import ReportCore
from server.api.problem import ProblemError
from server.api.routes import Profile, answered, check_agents, profile_of

LATEST_US: Final = 2**53
"""Of a moment: what a number in JSON keeps exactly."""

At = Annotated[
    str | None,
    Query(
        max_length=40, description="moment: us since 1970, 2026-11-25T09:45Z, 09:45, or 2h for so long ago"
    ),
]
Step = Annotated[
    int | None, Query(ge=1, le=31_536_000, description="width of a column, s; default: what fits")
]


def router() -> APIRouter:
    """Build the routes under ``/v1``."""
    routes = APIRouter(prefix="/v1", tags=["read"], dependencies=[needs(Scope.READ)])
    _add_timeline(routes)
    return routes


def _add_timeline(routes: APIRouter) -> None:
    @routes.get(
        "/paths/{src}/{dst}/timeline",
        summary="One path over time: round trips, loss, letters, what is usual, routes and rungs",
    )
    def timeline(
        *,
        core: TheCore,
        src: str,
        dst: str,
        profile: Profile = None,
        since: At = None,
        until: At = None,
        step_s: Step = None,
    ) -> Response:
        return answered(timeline_of(core, src, dst, profile, since=since, until=until, step_s=step_s))


def timeline_of(
    core: ReportCore,
    src: str,
    dst: str,
    profile: str | None,
    *,
    since: str | None = None,
    until: str | None = None,
    step_s: int | None = None,
) -> Timeline:
    """Lay out a path. Raises ``ProblemError``: 404 for an unknown name, 422 for no moment, no range."""
    check_agents(core, src, dst)
    since_us, until_us = read_moment("since", since), read_moment("until", until)
    if since_us is not None and since_us >= (now_us() if until_us is None else until_us):
        raise ProblemError(422, "The range is empty", remedy="since must be before until")
    step_us = None if step_s is None else step_s * 1_000_000
    chosen = profile_of(core, profile)
    return core.timeline(src, dst, chosen, since_us=since_us, until_us=until_us, step_us=step_us)


def read_moment(name: str, text: str | None) -> int | None:
    """Read a moment from a query; None for an empty field. Raises ``ProblemError`` (422)."""
    if text is None or not text.strip():
        return None
    found = moment_us(text, now_us())
    if found is None or found > LATEST_US:
        raise ProblemError(422, f"{name} is no moment: {text!r}", remedy=f"for example {EXAMPLES}")
    return found
