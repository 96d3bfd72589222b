"""Changes as they happen: ``GET /v1/events``, server-sent events (WHATWG HTML, 9.2).

::

    id: 5f0c...            what is shown now: who comes back with it as Last-Event-ID is told what is newer
    event: revision
    data: {"revision":"5f0c...","profile":"pacs"}

    : still here           every 15 s, so that who is between notices an end that is gone

The listeners of one tenant and profile share one look at the report; where nobody listens, nobody looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from server.api.access import Scope, TheCore, TheVisitor, needs, still_welcome
from server.api.core import ReportCore, Status
from server.api.problem import ProblemError
from server.api.routes import Profile, profile_of

log: Final = logging.getLogger("pathgrade.events")

LOOK_S: Final = 2.0
"""Between two looks at what a profile shows."""
HEARTBEAT_S: Final = 15.0
MOST_LISTENERS: Final = 500
"""Of all tenants; each holds a connection."""
MOST_OF_TENANT: Final = 200
MOST_OF_VISITOR: Final = 30
"""Of one account or token: one that opens page after page must not keep the others of its tenant out."""
RETRY_MS: Final = 3_000
"""How soon a browser connects again."""

HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Accel-Buffering": "no"}

Welcome = Callable[[], Awaitable[bool]]
Revision = Annotated[
    str, Query(max_length=80, description="what is known already: only what is newer is told")
]
LastEvent = Annotated[str, Header(alias="Last-Event-ID", max_length=80, description="as a browser sends it")]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What an event says."""

    revision: str
    profile: str


async def _always() -> bool:
    return True


class Feed:
    """What one profile of one tenant shows, looked at for all who listen."""

    def __init__(self, core: ReportCore, profile: str, look_s: float) -> None:
        self.listeners = 0
        self.profile = profile
        self._core = core
        self._look_s = look_s
        self._revision = ""
        self._changed = asyncio.Event()
        self._looking = asyncio.create_task(self._look())

    async def newer(self, known: str) -> str:
        """Wait for another revision than the one that is known."""
        while self._revision in {"", known}:
            await self._changed.wait()
        return self._revision

    def close(self) -> None:
        """Look no more."""
        self._looking.cancel()

    async def _look(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # the page says what is wrong; a later look may do
                self._tell(await asyncio.to_thread(self._seen))
            await asyncio.sleep(self._look_s)

    def _seen(self) -> str:
        return revision_of(self._core.revision(self.profile), self._core.status())

    def _tell(self, revision: str) -> None:
        if revision != self._revision:
            self._revision = revision
            self._changed.set()
            self._changed = asyncio.Event()


class Events:
    """Who listens, of all tenants; on the event loop, but for ``close``."""

    def __init__(self, look_s: float = LOOK_S, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._look_s = look_s
        self._heartbeat_s = heartbeat_s
        self._feeds: dict[tuple[str, str], Feed] = {}
        self._visitors: Counter[tuple[str, str]] = Counter()  # by tenant and name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = asyncio.Event()

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return sum(feed.listeners for feed in self._feeds.values())

    def admit(self, tenant: str, visitor: str = "") -> None:
        """Raise ``ProblemError`` (503) where there are as many as there may be."""
        if self._is_full(tenant, visitor):
            raise ProblemError(503, "Too many listen already", remedy="ask for the page now and then")

    def _is_full(self, tenant: str, visitor: str) -> bool:
        of_tenant = sum(feed.listeners for key, feed in self._feeds.items() if key[0] == tenant)
        return (
            self._closed.is_set()
            or self._visitors[tenant, visitor] >= MOST_OF_VISITOR
            or of_tenant >= MOST_OF_TENANT
            or self.listeners >= MOST_LISTENERS
        )

    async def of(
        self,
        core: ReportCore,
        tenant: str,
        profile: str,
        known: str,
        *,
        visitor: str = "",
        welcome: Welcome = _always,
    ) -> AsyncIterator[bytes]:
        """Tell what is newer than what is known, until the listener goes or is not welcome any more.

        That is asked before each event and each sign of life. It ends too when the server stops, and at once
        where others were faster: many may be admitted before the first of them listens.
        """
        self._loop = asyncio.get_running_loop()
        if self._is_full(tenant, visitor):
            return
        with self._counted(tenant, visitor), self._listening(core, tenant, profile) as feed:
            yield f"retry: {RETRY_MS}\n\n".encode()
            while not self._closed.is_set():
                revision = await self._next(feed, known)
                if self._closed.is_set() or not await welcome():
                    return
                known = revision or known
                yield event(Change(revision=revision, profile=profile)) if revision else b": still here\n\n"

    def close(self) -> None:
        """Let every listener go; from any thread."""
        if self._loop is None:
            self._closed.set()
        else:
            with contextlib.suppress(RuntimeError):  # its loop has ended, and with it the listeners
                self._loop.call_soon_threadsafe(self._closed.set)

    async def _next(self, feed: Feed, known: str) -> str:
        """Wait for what is newer; empty when it is time for a sign of life, or to go."""
        newer, closed = asyncio.ensure_future(feed.newer(known)), asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait(
                {newer, closed}, timeout=self._heartbeat_s, return_when=asyncio.FIRST_COMPLETED
            )
            return newer.result() if newer.done() else ""
        finally:
            newer.cancel()
            closed.cancel()

    @contextlib.contextmanager
    def _counted(self, tenant: str, visitor: str) -> Iterator[None]:
        self._visitors[tenant, visitor] += 1
        try:
            yield
        finally:
            self._visitors[tenant, visitor] -= 1
            self._visitors += Counter()  # forgets those of whom none is left

    @contextlib.contextmanager
    def _listening(self, core: ReportCore, tenant: str, profile: str) -> Iterator[Feed]:
        key = (tenant, profile)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(core, profile, self._look_s)
        feed.listeners += 1
        try:
            yield feed
        finally:
            feed.listeners -= 1
            if not feed.listeners:
                feed.close()
                del self._feeds[key]


def revision_of(report: str, status: Status) -> str:
    """Name what a page shows: the report, by its own revision, and how far the measuring is."""
    told = (
        report,
        status.agents_enrolled,
        status.agents_online,
        status.paths_measured,
        status.cycle_running,
        status.paths_put_off,
        status.paths_not_watched,
    )
    return hashlib.sha256(repr(told).encode()).hexdigest()[:24]


def event(change: Change) -> bytes:
    """Write an event; neither part can hold a line's end."""
    return b"id: %b\nevent: revision\ndata: %b\n\n" % (change.revision.encode(), msgspec.json.encode(change))


def router() -> APIRouter:
    """Build the route ``/v1/events``."""
    routes = APIRouter(prefix="/v1", tags=["read"], dependencies=[needs(Scope.READ)])

    @routes.get(
        "/events",
        summary="Changes of what a profile shows, as server-sent events",
        response_class=StreamingResponse,
        responses={
            200: {"content": {"text/event-stream": {}}, "description": "a stream without an end"},
            503: {"content": {"application/problem+json": {}}, "description": "too many listen already"},
        },
    )
    async def events(
        *,
        request: Request,
        core: TheCore,
        visitor: TheVisitor,
        profile: Profile = None,
        since: Revision = "",
        last: LastEvent = "",
    ) -> StreamingResponse:
        told: Events = request.app.state.events
        told.admit(visitor.tenant, visitor.name)
        graded_for = await asyncio.to_thread(profile_of, core, profile)
        stream = told.of(
            core,
            visitor.tenant,
            graded_for,
            last or since,
            visitor=visitor.name,
            welcome=lambda: still_welcome(request, Scope.READ),
        )
        return StreamingResponse(stream, media_type="text/event-stream", headers=HEADERS)

    return routes
