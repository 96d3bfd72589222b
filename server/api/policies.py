"""The policy's routes: ``/v1/policy``, ``/v1/policy/check``.

A policy is set in place of the version that was looked at (``If-Match``, RFC 9110 section 13.1.1), so that of
two who change it at once, the second is told.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from analytics.errors import PolicyError
from analytics.policy import Policy, PolicyRules
from server.api.access import Scope, TheDesk, TheVisitor, needs
from server.api.body import body_of, json_of, or_problem
from server.api.moments import At, read_moment
from server.api.policy_door import etag_of
from server.api.problem import ProblemError
from server.errors import PolicyChangedError

MOST_BYTES: Final = 128 * 1024
"""Of 200 rules with notes."""
Name = Annotated[str, Query(min_length=1, max_length=63)]


def router() -> APIRouter:
    """Build the routes under ``/v1``."""
    routes = APIRouter(prefix="/v1", tags=["control"])

    @routes.get("/policy", summary="Who may test whom, when and how much", dependencies=[needs(Scope.READ)])
    async def policy(desk: TheDesk) -> Response:
        return _told(desk.policy.policy())

    @routes.put(
        "/policy",
        summary="Set the policy, in place of the version that If-Match names",
        dependencies=[needs(Scope.ADMIN)],
    )
    async def set_policy(request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        asked = await body_of(request, PolicyRules, MOST_BYTES)
        version = _version(request, desk.policy.policy())
        try:
            return _told(desk.policy.set_policy(asked, version, actor=visitor.name))
        except PolicyError as error:
            raise ProblemError(422, str(error), remedy=error.remedy) from error
        except PolicyChangedError as error:
            raise _changed(error) from error

    @routes.get(
        "/policy/check",
        summary="Whether two agents may test each other, and by which rule",
        dependencies=[needs(Scope.READ)],
    )
    async def check(desk: TheDesk, src: Name, dst: Name, at: At = None) -> Response:
        at_us = read_moment("at", at)
        return json_of(or_problem(lambda: desk.policy.check(src, dst, at_us), 404))

    return routes


def _told(policy: Policy) -> Response:
    answer = json_of(policy)
    answer.headers["ETag"] = etag_of(policy)
    return answer


def _version(request: Request, known: Policy) -> int:
    """Read which version is to be replaced; raises ``ProblemError`` (428 without, 412 for another)."""
    told = request.headers.get("if-match")
    if told is None:
        raise ProblemError(
            428, "A policy is set in place of one that was seen", remedy=f"If-Match: {etag_of(known)}"
        )
    if told.strip() != etag_of(known):
        raise _changed(PolicyChangedError(known=known.version))
    return known.version


def _changed(error: PolicyChangedError) -> ProblemError:
    return ProblemError(412, str(error), remedy=error.remedy)
