"""Answers that are known to who asks are not sent again (RFC 9110 sections 8.8.3 and 13.1.2).

A middleware for JSON answers of GET that name no tag of their own: theirs is a hash of the body. It is a weak
one, as compression comes after it. What streams (exports, events) goes through untouched.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON: Final = "application/json"
TAG_BYTES: Final = 12
KEPT: Final = "private, no-cache"
"""A program with a token may keep the answer, and asks whether it still holds. A browser keeps nothing: its
computer may be anyone's after its session is over."""


class ETags:
    """Wraps an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        tagging = _Tagging(asked.get("if-none-match", ""), send, keep="authorization" in asked)
        await self._app(scope, receive, tagging.send)


class _Tagging:
    """Holds the head of an answer back until its body is there, where it may get a tag."""

    def __init__(self, known: str, send: Send, *, keep: bool) -> None:
        self._known = known
        self._send = send
        self._keep = keep
        self._head: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_taggable(message):
            self._head = message
            return
        if self._head is not None:
            message = await self._tagged(self._head, message)
            self._head = None
        await self._send(message)

    async def _tagged(self, head: Message, body: Message) -> Message:
        """Send the head with the body's tag; returns the body to send, none where it is known."""
        tag = tag_of(body.get("body", b""))
        headers = MutableHeaders(raw=head["headers"])
        headers["ETag"] = tag
        if self._keep:
            headers["Cache-Control"] = KEPT
        if is_known(tag, self._known):
            head["status"] = 304
            del headers["Content-Length"], headers["Content-Type"]
            body = {**body, "body": b""}
        await self._send(head)
        return body


def _is_taggable(head: Message) -> bool:
    """Whether an answer is whole JSON; one that streams does not say its length."""
    headers = Headers(raw=head["headers"])
    whole = head["status"] == 200 and "content-length" in headers and "etag" not in headers
    return whole and headers.get("content-type", "") == JSON


def tag_of(body: bytes) -> str:
    """Name a body."""
    return f'W/"{blake2b(body, digest_size=TAG_BYTES).hexdigest()}"'


def is_known(tag: str, known: str) -> bool:
    """Whether an ``If-None-Match`` names a tag, compared weakly."""
    opaque = tag.removeprefix("W/")
    return any(one.strip().removeprefix("W/") in (opaque, "*") for one in known.split(","))
