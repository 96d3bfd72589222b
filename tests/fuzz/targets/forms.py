"""Bodies of requests that change something: JSON and forms (server/api/body.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from fastapi import Request
from shaped import Taken

from server.api.body import FORM_TYPE, body_of, fields_of, form_of
from server.api.problem import ProblemError

ALLOWED = (ProblemError,)
SHORT_RUNS = 150
TYPES = (b"application/json", FORM_TYPE.encode(), b"application/json; charset=x", b"text/plain")


class Wanted(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(max_length=40)]
    count: int = 0
    on: bool = False
    several: list[str] = []


def target(data: bytes) -> None:
    taken = Taken(data)
    kind, way = taken.one_of(TYPES), taken.number(0, 2)
    said = taken.some(8) if taken.flag() else None
    body = taken.rest()
    length = str(len(body)).encode() if said is None else said
    pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)] or [b""]
    request = _request([(b"content-type", kind), (b"content-length", length)], pieces)
    _run((body_of(request, Wanted), form_of(request, Wanted), fields_of(request)), way)


def _request(headers: list[tuple[bytes, bytes]], pieces: list[bytes]) -> Request:
    left = list(pieces)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return Request(
        {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}, receive
    )


def _run(ways, way: int) -> None:
    """Nothing waits, so a running loop needs only be there for its clock."""
    for number, coroutine in enumerate(ways):
        if number != way:
            coroutine.close()
    LOOP.run_until_complete(ways[way])


def _loop():
    import asyncio

    return asyncio.new_event_loop()


LOOP = _loop()


def seeds() -> Iterator[bytes]:
    yield b"\0\0\0" + b'{"name":"ada","count":3,"on":true,"several":["a"]}'
    yield b"\1\1\0" + b"name=ada&count=3&on=true&several=a&several=b&csrf=x"
    yield b"\1\2\0" + b"a=%C3%28&b&=c&%00=%ff"
    yield b"\0\0\1\x03999" + b"{}"
