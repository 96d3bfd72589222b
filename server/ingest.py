"""Takes batches of facts in: checked, then on disk, then acknowledged.

Every way this can fail is one row of ``server.problems.PROBLEMS``; the agent keeps a batch until it has an
answer that says it is no longer needed.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from analytics.batch import Batch, TableBlock, check_batch
from analytics.column import repeated_text
from analytics.errors import AnalyticsError
from analytics.store.glance import right_columns
from analytics.store.spool import Packed, pack_body
from analytics.store.store import Store
from analytics.wire import BatchReply
from server.agent_rows import Agent
from server.api.access import agents_only
from server.credentials import Gate
from server.errors import (
    BodyEncodingError,
    BodyError,
    BodySizeError,
    BodySlowError,
    BusyError,
    NotYoursError,
    ServerError,
)
from server.problems import problem_of

MAX_BODY: Final = 4 * 1024 * 1024
"""As sent. An agent sends every second or two; its outbox cuts batches far below this."""
MAX_EXPANDED: Final = 32 * 1024 * 1024
"""After gzip: a thousand peers' readings and hops are 2 MB."""
MAX_IN_FLIGHT: Final = 64
"""Requests whose body is being read, checked or written: a bound on memory. More are told to come again."""
MAX_CHECKING: Final = min(4, os.cpu_count() or 1)
"""Bodies being expanded and checked at once: each may take ``MAX_EXPANDED`` bytes. More than there are CPUs
only wait for one another."""
MAX_PENDING: Final = 256 * 1024 * 1024
"""Expanded bytes on their way to the disk: a bound while it is slow. More are told to come again."""
BODY_S: Final = 30.0
"""For a body to arrive: 4 MiB at 1.2 Mbit/s. Slower than that, an agent should send less at once."""


class Ingest:
    """The way from a request to the store."""

    def __init__(
        self,
        gate: Gate,
        store: Store,
        *,
        heard: Callable[[str, TableBlock], None] = lambda tenant, block: None,
        refused: Counter[int] | None = None,  # where batches that are not taken are counted, by HTTP status
    ) -> None:
        self._heard = heard  # with tenant and packed readings of each new batch, once they are durable
        self._gate = gate
        self._store = store
        self._refused = Counter[int]() if refused is None else refused
        self._in_flight = 0
        self._pending = 0
        self._checking = asyncio.Semaphore(MAX_CHECKING)

    async def take(self, request: Request) -> BatchReply:
        """Take one batch; returns when it is durable. Raises ``ServerError`` or ``AnalyticsError``."""
        try:
            return await self._take(request)
        except (ServerError, AnalyticsError) as error:
            self._refused[problem_of(error).status] += 1
            raise

    def is_stale(self, request: Request) -> bool:
        """Say whether the sender is to connect anew."""
        return self._gate.is_stale(request.scope)

    async def _take(self, request: Request) -> BatchReply:
        agent = self._gate.agent(request.scope)
        if self._in_flight >= MAX_IN_FLIGHT:
            raise BusyError(f"{MAX_IN_FLIGHT} batches are being read already", remedy="send it again later")
        self._in_flight += 1
        try:
            sent = await read_body(request, MAX_BODY)
            encoding = request.headers.get("content-encoding", "identity")
            async with self._checking:
                body, batch = await asyncio.to_thread(_open, sent, encoding, agent)
            # Not under the semaphore: the more batches wait here at once, the more share one fsync.
            with self._pending_on(body):
                new = await self._store.append(batch, body, agent.tenant)
        finally:
            self._in_flight -= 1
        if new and "readings" in batch.tables:
            await asyncio.to_thread(self._heard, agent.tenant, batch.tables["readings"])
        rows = sum(block.rows for block in batch.tables.values())
        return BatchReply(rows=rows, duplicate=not new)

    @contextmanager
    def _pending_on(self, body: Packed) -> Iterator[None]:
        if self._pending + len(body) > MAX_PENDING:
            raise BusyError(f"{self._pending} bytes wait for the disk already", remedy="send it again later")
        self._pending += len(body)
        try:
            yield
        finally:
            self._pending -= len(body)


def router(ingest: Ingest) -> APIRouter:
    """Build the route ``POST /v1/batches``."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/batches", dependencies=[agents_only()])
    async def batches(request: Request) -> Response:
        reply = await ingest.take(request)
        # The next request comes over a new connection, with the certificate that the agent has meanwhile.
        over = {"Connection": "close"} if ingest.is_stale(request) else None
        return Response(msgspec.json.encode(reply), media_type="application/json", headers=over)

    return routes


async def read_body(request: Request, ceiling: int) -> bytes:
    """Read a request's body; raises ``BodySizeError`` above ``ceiling`` bytes and ``BodySlowError``."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > ceiling:
                    raise BodySizeError(f"the body is over {ceiling} bytes", remedy="send fewer rows at once")
    except TimeoutError as error:
        raise BodySlowError(f"the body took over {BODY_S:.0f} s", remedy="send fewer rows at once") from error
    except ClientDisconnect as error:
        raise BodyError("the sender hung up in the middle of the body") from error
    return bytes(body)


def expand(sent: bytes, encoding: str) -> bytes:
    """Undo a Content-Encoding, up to ``MAX_EXPANDED`` bytes; raises ``BodyError``."""
    if encoding == "identity":
        return sent
    if encoding != "gzip":
        raise BodyEncodingError(f"Content-Encoding {encoding!r}", remedy="send gzip, or none")
    unzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = unzip.decompress(sent, MAX_EXPANDED)
    except zlib.error as error:
        raise BodyEncodingError(f"not gzip: {error}") from error
    if unzip.unconsumed_tail:
        raise BodySizeError(
            f"the body expands to over {MAX_EXPANDED} bytes", remedy="send fewer rows at once"
        )
    if not unzip.eof or unzip.unused_data:
        raise BodyEncodingError("the gzip body is cut short, or followed by something else")
    return body


def _open(sent: bytes, encoding: str, agent: Agent) -> tuple[Packed, Batch]:
    """Expand, check and pack a batch; runs in a thread, as a large one takes a while."""
    body = expand(sent, encoding)
    batch = check_batch(body, right_columns)
    if batch.agent != agent.name:
        raise NotYoursError(f"the batch is {batch.agent}'s, the certificate is {agent.name}'s")
    for name, block in batch.tables.items():
        if not _all_of_tenant(block, agent.tenant):
            raise NotYoursError(f"{name}: rows that are not of tenant {agent.tenant}")
    return pack_body(body), batch


def _all_of_tenant(block: TableBlock, tenant: str) -> bool:
    """Compare the whole column at once: that many times the same text."""
    return not block.rows or repeated_text(block.columns["tenant"], block.rows) == tenant.encode()
