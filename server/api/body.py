"""Bodies of requests that change something, and answers to them.

A body must be JSON by its type, which a page of another site cannot make a browser send unasked
(https://fetch.spec.whatwg.org/#cors-preflight-fetch).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from fastapi import Request, Response

from server.api.problem import ProblemError
from server.errors import DemandError

HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
MOST_BYTES: Final = 4_096

T = TypeVar("T", bound=msgspec.Struct)


async def body_of(request: Request, kind: type[T]) -> T:
    """Read the JSON body of a request; raises ``ProblemError``."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise ProblemError(415, "The body is not JSON by its type", remedy="Content-Type: application/json")
    if int(request.headers.get("content-length", MOST_BYTES + 1)) > MOST_BYTES:
        raise ProblemError(413, f"The body is over {MOST_BYTES} bytes, or does not say its length")
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.DecodeError as error:
        raise ProblemError(422, "The body does not fit", detail=str(error)) from error


def or_problem(act: Callable[[], Any]) -> Any:
    """Do what was asked for; raises ``ProblemError`` (409) with the reason where it cannot be had."""
    try:
        return act()
    except DemandError as error:
        raise ProblemError(409, str(error), remedy=error.remedy) from error


def json_of(value: object, status: int = 200) -> Response:
    """Answer with a value."""
    body = msgspec.json.encode(value)
    return Response(body, status_code=status, media_type="application/json", headers=HEADERS)
