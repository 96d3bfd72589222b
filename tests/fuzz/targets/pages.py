"""Every page and reading route of the report with the fuzzer's paths, queries and headers: never a 5xx."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from unittest.mock import patch
from urllib.parse import quote

import anyio.to_thread
from shaped import Taken, counted

from server.pages.app import report_app
from tests.unit.server.routes_of import routes_of
from tests.unit.web.desk import FixtureDesk
from tests.unit.web.fleet import MEMBERS, Anyone, FixtureCore, OneTenant, Trends

ALLOWED = ()
SHORT_RUNS = 25
MOST_INPUT = 512
SEGMENTS = ("pacs", "clinic", "home", "nobody", "..", "%00", "a b", "\u00e9")
NAMES = (
    *("at", "profile", "since", "until", "metric", "agent", "src", "dst", "site", "letter", "limit", "start"),
    *("after", "before", "month", "service", "action", "actor", "q", "step_s", "port", "process", "hours"),
)
HEADERS = (b"if-none-match", b"accept", b"accept-encoding", b"hx-request", b"range", b"host", b"cookie")
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
LOOP = asyncio.new_event_loop()


_kept = functools.lru_cache(maxsize=64)


class SmallCore(FixtureCore):
    """Three agents, and what is made of their readings is kept: the fuzzer makes questions, not readings."""

    report = _kept(FixtureCore.report)
    timeline = _kept(FixtureCore.timeline)
    applications = _kept(FixtureCore.applications)
    explain = _kept(FixtureCore.explain)
    sla = _kept(FixtureCore.sla)
    __hash__ = object.__hash__


@functools.cache
def _app():
    core = SmallCore([member for member in MEMBERS if member.name in SEGMENTS])
    return report_app(OneTenant(core, FixtureDesk(), trends=Trends(core)), Anyone(), version="0.1.0")


@functools.cache
def _paths() -> list[str]:
    """Routes that read; not streams, which do not end, nor alerts and metrics, whose parts are not here."""
    without = (
        "/v1/events",
        "/v1/export",
        "/v1/audit/export",
        "/v1/receipts",
        "/v1/alerts",
        "/v1/silences",
        "/alerts",
        "/metrics",
    )
    paths = {route.path for route in routes_of(_app()) if route.method == "GET"}
    return sorted(path for path in paths if not path.startswith(without))


def target(data: bytes) -> None:
    taken = Taken(data)
    path = taken.one_of(_paths())
    while "{" in path:
        before, _, rest = path.partition("{")
        segment = taken.one_of(SEGMENTS) if taken.flag() else taken.text(12) or "x"
        path = before + segment + rest.partition("}")[2]
    pairs = [
        taken.one_of(NAMES).encode() + b"=" + _as_sent(taken.some(30)) for _ in range(taken.number(0, 4))
    ]
    headers = [(taken.one_of(HEADERS), taken.some(30)) for _ in range(taken.number(0, 2))]
    with patch.object(anyio.to_thread, "run_sync", _at_once):
        status = LOOP.run_until_complete(_asked(path, b"&".join(pairs), headers))
    assert status < 500, f"{status} for {path}"


async def _at_once(work: Callable[..., object], *arguments: object, **_how: object) -> object:
    """What runs in a thread of its own would cost as much again to be handed over there and back."""
    return work(*arguments)


def _as_sent(value: bytes) -> bytes:
    """A request line holds what can be seen (h11 answers anything else with 400); the rest comes as %XX."""
    return quote(value, safe=VISIBLE).encode()


async def _asked(path: str, query: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    found: list[int] = []
    left: list[dict[str, object]] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, object]:
        return left.pop() if left else {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            found.append(int(message["status"]))

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query,
             "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8080), "scheme": "http",
             "root_path": "", "http_version": "1.1"}  # fmt: skip
    await _app()(scope, receive, send)
    return found[0]


def seeds() -> Iterator[bytes]:
    for number, path in enumerate(_paths()):
        segments = b"\1\0" * path.count("{")
        yield bytes([number]) + segments + b"\1\0" + counted(b"2h")
