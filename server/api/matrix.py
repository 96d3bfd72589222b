"""One metric of all paths, for whoever draws a thousand agents by a thousand: ``GET /v1/matrix``."""

from __future__ import annotations

import gzip
import hashlib
from collections import OrderedDict
from threading import Lock
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Response

from analytics.clock import now_us
from analytics.overview import Metric
from server.api.access import Scope, TheCore, TheVisitor, needs
from server.api.moments import At, read_moment
from server.api.packed import packed
from server.api.routes import Profile, profile_of

MEDIA_TYPE: Final = "application/octet-stream"
GZIP_LEVEL: Final = 1
"""A megabyte in some ms; the next levels take three times as long for a tenth less."""
KEPT: Final = 8
"""Packed matrices that are remembered: as many as are looked at, at 4 MB each at most before compression."""
AGES_US: Final = 30_000_000
"""Ages grow while nothing else changes: a matrix of ages is packed again after so long."""

Choice = Annotated[Metric, Query(description="what the cells say")]
Known = Annotated[str, Header(alias="If-None-Match", max_length=200)]
Encodings = Annotated[str, Header(alias="Accept-Encoding", max_length=200)]


def tag_of(tenant: str, profile: str, metric: Metric, shown: str, at_us: int, *, past: bool) -> str:
    """Name a packed matrix (RFC 9110, 8.8.3): another where another would be sent."""
    ages = at_us // AGES_US if past or metric is Metric.AGE else 0  # the past, too: rows may come late
    told = "\n".join((tenant, profile, metric, shown, str(ages)))
    return f'"{hashlib.sha256(told.encode()).hexdigest()[:32]}"'


class Kept:
    """The latest packed matrices, compressed; from any thread."""

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, name: str) -> bytes | None:
        """Find one."""
        with self._lock:
            found = self._kept.get(name)
            if found is not None:
                self._kept.move_to_end(name)
            return found

    def put(self, name: str, body: bytes) -> None:
        """Keep one, and let go of the one that nobody asked for longest."""
        with self._lock:
            self._kept[name] = body
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def router() -> APIRouter:
    """Build the route ``/v1/matrix``."""
    routes = APIRouter(prefix="/v1", tags=["read"], dependencies=[needs(Scope.READ)])
    kept = Kept()

    @routes.get(
        "/matrix",
        summary="One metric of all paths, packed: layout in server/api/packed.py",
        response_class=Response,
        responses={
            200: {"content": {MEDIA_TYPE: {}}, "description": "head and cells"},
            304: {"description": "what is known already is still so"},
        },
    )
    def matrix(
        *,
        core: TheCore,
        visitor: TheVisitor,
        profile: Profile = None,
        metric: Choice = Metric.LETTER,
        at: At = None,
        known: Known = "",
        encodings: Encodings = "",
    ) -> Response:
        graded_for, at_us = profile_of(core, profile), read_moment("at", at)
        # Read before the cells: what changes meanwhile has another name, and is asked for again.
        shown = core.revision(graded_for) if at_us is None else str(at_us)
        tag = tag_of(visitor.tenant, graded_for, metric, shown, now_us(), past=at_us is not None)
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept-Encoding"}
        if tag in known:
            return Response(status_code=304, headers=headers)
        body = kept.get(tag)
        if body is None:
            body = gzip.compress(packed(core.matrix(graded_for, metric, at_us)), GZIP_LEVEL, mtime=0)
            kept.put(tag, body)
        if "gzip" in encodings:
            return Response(body, media_type=MEDIA_TYPE, headers={**headers, "Content-Encoding": "gzip"})
        return Response(gzip.decompress(body), media_type=MEDIA_TYPE, headers=headers)

    return routes
