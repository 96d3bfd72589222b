"""A page's form that was sent, and where its sender goes next."""

from __future__ import annotations

from typing import Final, TypeVar
from urllib.parse import parse_qs

import msgspec
from fastapi import Request, Response

from server.api.body import HEADERS
from server.api.problem import ProblemError

FORM_TYPE: Final = "application/x-www-form-urlencoded"
MOST_BYTES: Final = 16_384
T = TypeVar("T", bound=msgspec.Struct)


async def form_of(request: Request, kind: type[T]) -> T:
    """Read a form into a struct, numbers and truths as their fields say; raises ``ProblemError``."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise ProblemError(415, "The body is not a form by its type", remedy=f"Content-Type: {FORM_TYPE}")
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MOST_BYTES:
        raise ProblemError(413, f"The body is over {MOST_BYTES} bytes, or does not say its length")
    try:
        text = (await request.body()).decode("ascii")
        fields = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=200)
        flat = {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
        return msgspec.convert(flat, kind, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise ProblemError(422, "The form does not fit", detail=str(error)) from error


def see_other(path: str) -> Response:
    """Answer a form: the page to see now (RFC 9110, 15.4.4)."""
    return Response(status_code=303, headers={**HEADERS, "Location": path})
