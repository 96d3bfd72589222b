"""Errors over HTTP: one problem+json (RFC 9457), with what to try in ``remedy``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from fastapi import Response

MEDIA_TYPE: Final = "application/problem+json"
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""A refusal may name agents and tenants, too; and it holds only until somebody logs in."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong, and what to try: the body of every answer of 400 and up."""

    status: int
    title: str
    detail: str = ""
    remedy: str = ""


class ProblemError(Exception):
    """Raised in a route to answer with a problem."""

    def __init__(
        self,
        status: int,
        title: str,
        *,
        detail: str = "",
        remedy: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(title)
        self.problem = Problem(status=status, title=title, detail=detail, remedy=remedy)
        self.headers = headers


def problem_response(problem: Problem, *, headers: dict[str, str] | None = None) -> Response:
    """Encode a problem as a response."""
    from fastapi import Response  # noqa: PLC0415  # a command that reads problems needs no FastAPI

    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers={**HEADERS, **(headers or {})},
    )
