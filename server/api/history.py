"""The read API over time: how a path was, and what changed between two moments.

Routes are plain functions, as those of ``server/api/routes.py``.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from analytics.clock import now_us
from analytics.compare import Comparison
from analytics.moments import EXAMPLES
from analytics.timeline import Timeline
from server.api.access import Scope, TheCore, needs
from server.api.core import ReportCore
from server.api.moments import At, read_moment
from server.api.problem import ProblemError
from server.api.routes import Profile, answered, check_agents, profile_of

COMPARED_AGENTS: Final = 200
"""Of a larger fleet, two reports of all paths are minutes of work."""

Before = Annotated[str, Query(max_length=40, description="the earlier moment, written as after is")]
Step = Annotated[
    int | None, Query(ge=1, le=31_536_000, description="width of a column, s; default: what fits")
]


def router() -> APIRouter:
    """Build the routes under ``/v1``."""
    routes = APIRouter(prefix="/v1", tags=["read"], dependencies=[needs(Scope.READ)])
    _add_timeline(routes)
    _add_diff(routes)
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


def _add_diff(routes: APIRouter) -> None:
    @routes.get("/diff", summary="Two moments beside each other: what changed, by cause, worst first")
    def diff(core: TheCore, before: Before, after: At = None, profile: Profile = None) -> Response:
        return answered(comparison_of(core, before, after, profile))


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


def comparison_of(core: ReportCore, before: str, after: str | None, profile: str | None) -> Comparison:
    """Compare two moments, the later one now if None.

    Raises ``ProblemError``: 404 for an unknown profile, 422 for no moment, for the wrong order, and for a
    fleet too large to be compared path by path.
    """
    before_us, after_us = read_moment("before", before), read_moment("after", after)
    if before_us is None:
        raise ProblemError(422, "before is missing", remedy=f"for example {EXAMPLES}")
    if before_us >= (now_us() if after_us is None else after_us):
        raise ProblemError(422, "The order is wrong", remedy="before must be earlier than after")
    if len(core.members()) > COMPARED_AGENTS:
        raise ProblemError(
            422,
            f"More than {COMPARED_AGENTS} agents are not compared path by path",
            remedy="export the paths of both times, and join them by src and dst (docs/analysts.md)",
        )
    return core.compare(profile_of(core, profile), before_us, after_us)
