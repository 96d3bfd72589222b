"""The control connection to the server: kept open, and opened again with full-jitter backoff."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from agent.credential import Credential
from agent.enrol import Problem, explain
from agent.errors import CredentialRefusedError, ServerSilentError
from agent.retry import Pace, StateLine, backoff_s
from agent.tls import is_unproven
from analytics.errors import UNREADABLE, MessageError
from analytics.wire import MAX_MESSAGE, FromAgent, FromServer, Hello, Notice, decode_from_server, encode

log: Final = logging.getLogger("pathgrade.agent.control")

OPEN_S: Final = 10.0
PING_S: Final = 10.0
PONG_S: Final = 20.0
"""A path of some seconds of round trip is bad, but it is a path: the server gives up on us before we do."""
CLOSE_S: Final = 0.5
"""For a farewell: the agent must be gone within two seconds of SIGTERM."""
STABLE_S: Final = 10.0
"""A connection that lasted this long was a good one: the next attempt comes soon."""
MESSAGES_PER_S: Final = 40.0
MESSAGES_AT_ONCE: Final = 200
"""A test needs some ten. A server that says more is heard later: CPU and log are this host's, not its own."""
SEND_S: Final = 5.0
"""For a message to leave this host."""


class Control:
    """The connection. ``on_message`` and ``on_lost`` are called on the event loop and must not block."""

    def __init__(
        self,
        credential: Credential,
        context: ssl.SSLContext,
        hello: Hello,
        *,
        on_message: Callable[[FromServer], None],
        on_lost: Callable[[], None],
        greet: Callable[[Hello], Hello] = lambda hello: hello,  # with what is of this connection only
        backoff: Callable[[int], float] = backoff_s,
    ) -> None:
        self.unproven = 0  # connections that somebody else than the server answered
        self._server = credential.server
        self._context = context
        self._hello = hello
        self._on_message = on_message
        self._on_lost = on_lost
        self._greet = greet
        self._backoff = backoff
        self._line = StateLine(log)
        self._socket: ClientConnection | None = None

    async def say(self, message: FromAgent) -> None:
        """Send a message; raises ``ServerSilentError`` while there is no connection."""
        if self._socket is None:
            raise ServerSilentError("no control connection")
        try:
            async with asyncio.timeout(SEND_S):
                await self._socket.send(encode(message))
        except (ConnectionClosed, TimeoutError) as error:
            raise ServerSilentError("the control connection broke") from error

    async def run(self) -> None:
        """Stay connected until cancelled; raises ``CredentialRefusedError``."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            started_s = loop.time()
            why = await self._connection()
            self._line.say(f"not connected server={self._server} why={why!r}", level=logging.WARNING)
            attempt = 0 if loop.time() - started_s > STABLE_S else attempt
            await asyncio.sleep(self._backoff(attempt))
            attempt += 1

    async def _connection(self) -> str:
        """Hold one connection to its end; return why it ended."""
        try:
            async with connect(
                control_url(self._server),
                ssl=self._context,
                compression=None,
                proxy=None,  # as the uploads: the server is reached directly
                open_timeout=OPEN_S,
                ping_interval=PING_S,
                ping_timeout=PONG_S,
                close_timeout=CLOSE_S,
                max_size=MAX_MESSAGE,
            ) as socket:
                await self._converse(socket)
        except InvalidStatus as error:
            if error.response.status_code == 401:
                raise CredentialRefusedError(
                    f"connect to {self._server}: {_why_refused(error)}",
                    remedy="enrol again: give the agent a new token",
                ) from error
            return str(error)
        except (OSError, TimeoutError, InvalidHandshake, ServerSilentError) as error:
            self.unproven += is_unproven(error)
            return str(error) or type(error).__name__
        return _why_closed(socket)

    async def _converse(self, socket: ClientConnection) -> None:
        """Talk until the connection ends; raises ``ServerSilentError`` if an answer does not get through."""
        try:
            await socket.send(encode(self._greet(self._hello)))
            self._socket = socket
            self._line.say(f"connected server={self._server}")
            pace, clock = Pace(MESSAGES_PER_S, MESSAGES_AT_ONCE), asyncio.get_running_loop().time
            async for data in socket:
                if wait_s := pace.wait_s(clock()):
                    await asyncio.sleep(wait_s)
                await self._take(data)
        except ConnectionClosed:
            return
        finally:
            self._socket = None
            self._on_lost()

    async def _take(self, data: str | bytes) -> None:
        try:
            message = decode_from_server(data)
        except MessageError as error:
            await self.say(Notice(code="unreadable", text=str(error)[:500]))
        else:
            self._on_message(message)


def control_url(server: str) -> str:
    """Name the control endpoint of a server: ``https://h:p`` -> ``wss://h:p/v1/control``."""
    return f"wss://{urlsplit(server).netloc}/v1/control"


def _why_refused(error: InvalidStatus) -> str:
    try:
        return explain(msgspec.json.decode(error.response.body or b"", type=Problem))
    except UNREADABLE:
        return "unknown credential"


def _why_closed(socket: ClientConnection) -> str:
    reason = f": {socket.close_reason}" if socket.close_reason else ""
    return f"closed {socket.close_code}{reason}"
