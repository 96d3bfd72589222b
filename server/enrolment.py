"""``POST /v1/enrol``: a token and a certificate's fingerprint in, the agent's credential out."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec
from fastapi import APIRouter, Request, Response

from analytics.errors import MessageError
from analytics.wire import EnrolReply, EnrolRequest
from server.clock import now_us
from server.ingest import read_body
from server.state import State

log: Final = logging.getLogger("pathgrade.server.enrolment")

MAX_BODY: Final = 16 * 1024


def router(state: State) -> APIRouter:
    """Build the route."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/enrol")
    async def enrol(request: Request) -> Response:
        reply = await _enrol(state, request)
        return Response(msgspec.json.encode(reply), media_type="application/json")

    return routes


async def _enrol(state: State, request: Request) -> EnrolReply:
    wanted = _decode(await read_body(request, MAX_BODY))
    origin = request.client.host if request.client else "unknown"
    reply = await asyncio.to_thread(state.enrol, wanted, at_us=now_us(), origin=origin)
    log.info("agent enrolled name=%s site=%s from=%s", reply.agent, wanted.site, origin)
    return reply


def _decode(body: bytes) -> EnrolRequest:
    try:
        return msgspec.json.decode(body, type=EnrolRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(
            f"not an enrolment: {error}", remedy="see analytics/wire.py, EnrolRequest"
        ) from error
