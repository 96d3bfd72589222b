"""Sockets to listen on, and uvicorn without a will of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from analytics.wire import MAX_MESSAGE
from server.agent_tls import PRESENTED, Presented, presented
from server.door import Door, Doorway
from server.errors import ListenError
from server.settings import Address
from server.stun import Counters, Responder

PING_S: Final = 5.0
"""Between pings on a control connection. A test must not wait long for an agent that is gone."""
PONG_S: Final = 10.0
"""For the answer: longer than any path we call usable, and than a busy agent is away."""
CLOSE_S: Final = 3
"""For running requests to end when the server stops."""

HEAD_S: Final = 30.0
"""For the head of a request to arrive: who connects and says nothing must not hold all the descriptors."""

HANDSHAKE_S: Final = 10.0
"""For a TLS handshake: two round trips. Who connects and says nothing holds a descriptor for so long."""
FAREWELL_S: Final = 2.0
"""For the other end's word that it is over; nobody waits for it."""

_REMEDIES: Final = {
    errno.EADDRINUSE: "stop what uses it (ss -lntup shows it), or choose another port",
    errno.EADDRNOTAVAIL: "choose an address of this host (ip address shows them)",
    errno.EACCES: "choose a port above 1023, or run with CAP_NET_BIND_SERVICE",
}


class Prompt(H11Protocol):
    """HTTP that does not wait for ever for a request; uvicorn limits only the time between two."""

    door: Door | None = None
    _awaits: asyncio.TimerHandle | None = None
    _agent: tuple[str, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Wait for the first request; over TLS, keep what the other end presented."""
        super().connection_made(transport)
        if (tls := transport.get_extra_info("ssl_object")) is not None:
            self.app_state = {**self.app_state, PRESENTED: (shown := presented(tls))}
            if shown is not None:
                self._enter(shown)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take a piece in; what begins to be answered is awaited no more."""
        super().data_received(data)
        if self.cycle is not None and not self.transport.get_extra_info("ssl_object"):
            self._is_known()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        super().connection_lost(exc)
        self._stop_awaiting()
        if self.door is not None and self._agent is not None:
            self.door.leave(self._agent)

    def _enter(self, shown: Presented) -> None:
        """Come in as an agent's, if it is known: else this stays a stranger, and is told why when it asks."""
        if self.door is None or not self.door.knows(shown):
            return
        agent = (shown.tenant, shown.name)
        if self.door.enter(self._number(), agent):
            self._agent = agent
        else:
            self.transport.abort()

    def _is_known(self) -> None:
        """Tell the door that this is no stranger any more."""
        if self.door is not None:
            self.door.known(self._number())

    def _number(self) -> int:
        sock = self.transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    def _await_head(self) -> None:
        if not self._is_idle():
            self._stop_awaiting()
        elif self._awaits is None:
            self._awaits = self.loop.call_later(HEAD_S, self._give_up)

    def _stop_awaiting(self) -> None:
        if self._awaits is not None:
            self._awaits.cancel()
            self._awaits = None

    def _give_up(self) -> None:
        self._awaits = None
        if self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        """Whether nothing is being answered, and the connection has not become a WebSocket."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return not answering and not self.transport.is_closing() and self.transport.get_protocol() is self


class Listener(uvicorn.Server):
    """uvicorn, but stopping is up to ``server.app``, and a TLS handshake has an end."""

    def __init__(self, config: uvicorn.Config, tls: ssl.SSLContext | None, door: Door) -> None:
        super().__init__(config)
        self._tls = tls
        self.door = door

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: there are two of these in one process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections, behind a door. uvicorn has none, and leaves a minute to a handshake."""
        await self.lifespan.startup()
        self.servers = []
        loop = asyncio.get_running_loop()
        waits = (HANDSHAKE_S, FAREWELL_S) if self._tls is not None else (None, None)
        for sock in sockets or []:
            if isinstance(sock, Doorway):
                sock.door = self.door
            self.servers.append(
                await loop.create_server(
                    self._connected,
                    sock=sock,
                    ssl=self._tls,
                    ssl_handshake_timeout=waits[0],
                    ssl_shutdown_timeout=waits[1],
                    backlog=self.config.backlog,
                )
            )
        self.started = True

    def _connected(self) -> asyncio.Protocol:
        made = Prompt(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        made.door = self.door
        return made

    def stop(self) -> None:
        """End soon: no new connection, running requests end."""
        self.should_exit = True


def http_listener(app: FastAPI, tls: ssl.SSLContext | None = None, door: Door | None = None) -> Listener:
    """Prepare to serve an application, over TLS if a context is given."""
    return Listener(
        uvicorn.Config(
            app,
            http=Prompt,
            lifespan="off",
            log_config=None,
            log_level="warning",  # who comes and goes is said by our own lines
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing stands in front that we trust
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PONG_S,
            ws_per_message_deflate=False,  # messages are small
            timeout_graceful_shutdown=CLOSE_S,
        ),
        tls,
        Door() if door is None else door,  # an empty one is false
    )


def tcp_socket(at: Address, what: str) -> socket.socket:
    """Bind a TCP socket; raises ``ListenError``."""
    return _bound(at, socket.SOCK_STREAM, what)


def given_socket(fd: int) -> socket.socket:
    """Take over a listening socket; raises ``ListenError``."""
    try:
        taken = Doorway(fileno=fd)
        listening = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ListenError(
            f"take descriptor {fd} for the report: {error.strerror}",
            remedy="hand over an open listening TCP socket, or use --report HOST:PORT",
        ) from error
    if not listening:
        taken.close()
        raise ListenError(
            f"take descriptor {fd} for the report: it does not listen", remedy="call listen() on it first"
        )
    return taken


async def stun_responders(
    addresses: Sequence[Address], counters: Counters
) -> list[asyncio.DatagramTransport]:
    """Answer STUN on each address, as one responder with several doors; raises ``ListenError``."""
    loop = asyncio.get_running_loop()
    opened: list[asyncio.DatagramTransport] = []
    responders: list[Responder] = []
    try:
        for at in addresses:
            sock = _bound(at, socket.SOCK_DGRAM, "STUN")
            transport, responder = await loop.create_datagram_endpoint(lambda: Responder(counters), sock=sock)
            opened.append(transport)
            responders.append(responder)
    except BaseException:
        for transport in opened:
            transport.close()
        raise
    doors = {transport.get_extra_info("sockname")[:2]: transport for transport in opened}
    for here, responder in zip(doors, responders, strict=True):
        responder.join(here, doors)
    return opened


def _bound(at: Address, kind: socket.SocketKind, what: str) -> socket.socket:
    sock: socket.socket | None = None
    try:
        family, _, _, _, where = socket.getaddrinfo(at.host, at.port, type=kind, flags=socket.AI_PASSIVE)[0]
        sock = Doorway(family, kind) if kind == socket.SOCK_STREAM else socket.socket(family, kind)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(where)
        if kind == socket.SOCK_STREAM:
            sock.listen()  # at once: two sockets may be bound to a port, but only one may listen
    except OSError as error:
        if sock is not None:
            sock.close()
        remedy = _REMEDIES.get(error.errno or 0, "check the address")
        raise ListenError(f"listen on {at} for {what}: {error.strerror}", remedy=remedy) from error
    return sock
