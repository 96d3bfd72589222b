"""httpx, without the command line that it brings along.

Where click is installed, importing httpx imports its command too, and with it rich and pygments: 5 MB that an
agent has no use for. httpx takes the lack of click as that of the command.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

__all__ = ["answer_of", "httpx"]

MOST_ANSWER: Final = 64 * 1024
"""Of any answer to an agent: a certificate and a few words are 2 KB."""
ANSWER_S: Final = 30.0
"""For its body, from its first byte on."""


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Have ``import module`` fail; one that is loaded already stays."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # as the import system documents it
    try:
        yield
    finally:
        del sys.modules[module]


with _hidden("click"):
    import httpx


async def answer_of(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float,
) -> httpx.Response:
    """Ask, and take a short answer in as it comes, unpacking nothing: also a proven server may be hostile.

    Raises ``httpx.TransportError``, also for an answer that is long or does not end.
    """
    asked = {**(headers or {}), "Accept-Encoding": "identity"}
    async with client.stream(method, path, content=content, headers=asked, timeout=timeout_s) as response:
        try:
            async with asyncio.timeout(ANSWER_S):
                body = await _short(response)
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"the answer did not end within {ANSWER_S:.0f} s") from error
        told = {name: value for name, value in response.headers.items() if name in ("retry-after", "date")}
        return httpx.Response(response.status_code, headers=told, content=body)


async def _short(response: httpx.Response) -> bytes:
    body = b""
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MOST_ANSWER:
            raise httpx.RemoteProtocolError(f"the answer is longer than {MOST_ANSWER:,} bytes")
    return body
