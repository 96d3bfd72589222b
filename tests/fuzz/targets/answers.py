"""What a server answers the command and the agent: JSON, problems, the matrix, a collector's refusals."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import msgspec
from shaped import chosen, either

from agent.enrol import problem_in
from analytics.errors import WireError
from analytics.overview import Overview
from server.api.client import _read
from server.api.connection import good
from server.api.packed import unpacked
from server.errors import AskError
from server.metrics.push import _rejected

ALLOWED = (WireError, AskError)
REQUEST = httpx.Request("GET", "http://127.0.0.1:8080/v1/overview")
SHORT_RUNS = 150


def target(data: bytes) -> object:
    return either(
        data,
        unpacked,
        lambda body: _read(httpx.Response(200, content=body, request=REQUEST), Overview),
        lambda body: good(httpx.Response(422, content=body, request=REQUEST)),
        lambda body: problem_in(httpx.Response(422, content=body, request=REQUEST)),
        _rejected,
    )


def seeds() -> Iterator[bytes]:
    head = msgspec.json.encode(
        {"profile": "pacs", "metric": "letter", "at_us": 1, "revision": "r", "agents": ["a", "b"],
         "sites": ["x", "y"], "rungs": [], "cell_bytes": 1, "unit": "", "none": 63}
    )  # fmt: skip
    head += b" " * (-len(head) % 4)
    yield chosen(0, b"PGM1" + len(head).to_bytes(4, "little") + head + b"?AB?")
    yield chosen(1, b'{"profile":"pacs","agents":[]}')
    for way in (2, 3):
        yield chosen(way, b'{"type":"about:blank","status":422,"title":"no","detail":"why","remedy":"what"}')
        yield chosen(way, b'{"x":' + b"[" * 40 + b"]" * 40 + b"}")
    yield chosen(4, b"\x0a\x09\x08\x05\x12\x05words")
