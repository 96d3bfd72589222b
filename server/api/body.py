"""Bodies of requests that change something, and answers to them.

The API's bodies are JSON by their type, the pages' are forms. Nothing is read before the asker may do what
they ask for: routes read their body themselves, and FastAPI never does it for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, quote

import msgspec
from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from analytics.errors import UNREADABLE
from server.api.csrf import FIELD
from server.api.problem import ProblemError
from server.errors import DemandError

HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
MOST_BYTES: Final = 4_096
FORM_BYTES: Final = 16_384
FORM_FIELDS: Final = 200
BODY_S: Final = 15.0
"""For a body to arrive: it is a few kilobytes."""
FORM_TYPE: Final = "application/x-www-form-urlencoded"
_IN_URLS: Final = ":/?#[]@!$&'()*+,;=%~"

T = TypeVar("T", bound=msgspec.Struct)


async def body_of(request: Request, kind: type[T], most: int = MOST_BYTES) -> T:
    """Read the JSON body of a request, ``most`` bytes; raises ``ProblemError``."""
    if type_of(request) != "application/json":
        raise ProblemError(415, "The body is not JSON by its type", remedy="Content-Type: application/json")
    try:
        return msgspec.json.decode(await _bounded(request, most), type=kind)
    except UNREADABLE as error:
        raise ProblemError(422, "The body does not fit", detail=str(error)) from error


async def fields_of(request: Request) -> dict[str, list[str]]:
    """Read the fields of a form; raises ``ProblemError``. A field may come more than once."""
    if type_of(request) != FORM_TYPE:
        raise ProblemError(415, "The body is not a form by its type", remedy=f"Content-Type: {FORM_TYPE}")
    try:
        text = (await _bounded(request, FORM_BYTES)).decode("ascii")
        return parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS)
    except ValueError as error:
        raise ProblemError(422, "The form does not fit", detail=str(error)) from error


async def form_of(request: Request, kind: type[T]) -> T:
    """Read a form into a struct, numbers and truths as their fields say; raises ``ProblemError``."""
    fields = {name: values for name, values in (await fields_of(request)).items() if name != FIELD}
    flat = {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
    try:
        return msgspec.convert(flat, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ProblemError(422, "The form does not fit", detail=str(error)) from error


def type_of(request: Request) -> str:
    """Name the type of the body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _bounded(request: Request, most: int) -> bytes:
    """Read a body once; what it says of its length is believed only where it is no less than what comes."""
    known: bytes | None = getattr(request.state, "body", None)
    if known is not None:
        return known
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > most:
        raise _too_large(most)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            # Beside a length there may be chunks, which go on for ever (RFC 9112, 6.3).
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise _too_large(most)
    except TimeoutError as error:
        raise ProblemError(408, "The body did not arrive in time", remedy="send it at once") from error
    except ClientDisconnect as error:
        raise ProblemError(400, "The body broke off") from error
    request.state.body = bytes(body)
    return bytes(body)


def _too_large(most: int) -> ProblemError:
    return ProblemError(413, f"The body is over {most} bytes, or does not say its length")


def or_problem(act: Callable[[], Any], status: int = 409) -> Any:
    """Do what was asked for; raises ``ProblemError`` with the reason where it cannot be had."""
    try:
        return act()
    except DemandError as error:
        raise ProblemError(status, str(error), remedy=error.remedy) from error


def json_of(value: object, status: int = 200) -> Response:
    """Answer with a value."""
    body = msgspec.json.encode(value)
    return Response(body, status_code=status, media_type="application/json", headers=HEADERS)


def see_other(path: str) -> Response:
    """Answer a form: the page to see now (RFC 9110, 15.4.4)."""
    # A header holds ASCII (RFC 3986); what is quoted already stays as it is.
    return Response(status_code=303, headers={**HEADERS, "Location": quote(path, safe=_IN_URLS)})
