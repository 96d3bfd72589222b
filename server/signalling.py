"""The control connections: ``WS /v1/control``. One reader and one writer each; what is said is in a table.

An agent says ``Hello`` first and is answered ``Welcome``. Whatever cannot be taken after that is answered
with one ``Notice``, and the connection stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import APIRouter, WebSocket

from analytics.clock import now_us
from analytics.errors import MessageError, SealError
from analytics.wire import (
    FromAgent,
    Health,
    Hello,
    MeshSwitch,
    NatReport,
    Notice,
    Signal,
    TestEnded,
    Welcome,
    decode_from_agent,
    encode,
)
from server.api.access import agents_only
from server.api.problem import problem_response
from server.credentials import Gate, shown_by
from server.cycles import Cycles
from server.errors import CredentialError
from server.grants import Signer, check_binding
from server.hub import REVOKED, Connection
from server.problems import problem_of
from server.realm import Realms
from server.state import State
from server.vitals import Told

log: Final = logging.getLogger("pathgrade.server.signalling")

HELLO_S: Final = 10.0
"""For the first message: an agent says it at once."""

NO_HELLO: Final = 4003
"""WebSocket close code: the first message was not ``Hello``, or did not come."""


class Gone(Exception):  # noqa: N818  # not a fault: the agent hung up
    """The agent closed the connection, or it broke."""


class Signalling:
    """Talks to the agents on behalf of the mesh of each one's tenant."""

    def __init__(self, state: State, gate: Gate, realms: Realms, signer: Signer, *, version: str) -> None:
        self._state = state
        self._gate = gate
        self._realms = realms
        self._signer = signer
        self._version = version
        self._handlers: dict[type[Any], Callable[[Connection, Any], None]] = {
            Hello: self._on_hello,
            Signal: self._on_signal,
            TestEnded: self._on_ended,
            Health: self._on_health,
            NatReport: self._on_nat,
            Notice: self._on_notice,
        }

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection from its first message to its end."""
        try:
            agent = self._gate.agent(socket.scope)
        except CredentialError as error:
            await socket.send_denial_response(problem_response(problem_of(error)))
            return
        await socket.accept()
        hello = await _hello(socket)
        if hello is None:
            await _close(socket, NO_HELLO, "the first message must be hello")
            return
        shown = shown_by(socket.scope)
        connection = Connection(
            agent, hello, server_host=_own_host(socket), until_us=shown.until_us if shown else 0
        )
        await self._converse(socket, connection)

    async def _converse(self, socket: WebSocket, connection: Connection) -> None:
        agent, realm = connection.agent, self._realms.of(connection.agent.tenant)
        objection = self._bind(connection)
        if self._state.is_revoked(agent.tenant, agent.name) or not self._state.is_enrolled(agent):
            await _close(socket, REVOKED, "revoked, or replaced")  # since it was let in
            return
        realm.hub.attach(connection)
        realm.own_switches.take(agent.name, connection.hello)
        log.info("agent online name=%s site=%s passive=%r", agent.name, agent.site, connection.hello.passive)
        connection.say(
            Welcome(
                tenant=agent.tenant,
                server_version=self._version,
                stun=realm.cycles.stun_urls(connection),
                time=self._signer.time(connection.hello.challenge),
            )
        )
        if not realm.hub.switches.on(agent.name, agent.site):
            connection.say(MeshSwitch(on=False))  # a connection begins with them on
        if objection:
            connection.say(Notice(code="binding", text=objection))
        try:
            await _until_over(socket, connection, self._read(socket, connection))
        finally:
            realm.hub.detach(connection)
            self._state.saw(agent.tenant, agent.name, now_us())
            log.info("agent offline name=%s", agent.name)

    def _bind(self, connection: Connection) -> str:
        """Take the agent's binding; without one, its peers will not test it. Returns what is wrong."""
        agent, hello = connection.agent, connection.hello
        if not hello.binding:
            return ""
        try:
            check_binding(agent, agent.identity_key, hello.binding)
        except SealError as error:
            log.warning("not bound name=%s why=%r", agent.name, str(error))
            return str(error)[:500]
        connection.binding = hello.binding
        return ""

    async def _read(self, socket: WebSocket, connection: Connection) -> None:
        while True:
            try:
                message = decode_from_agent(await _receive(socket))
            except MessageError as error:
                connection.say(Notice(code="unreadable", text=str(error)[:500]))
            except Gone:
                return
            else:
                self._handlers[type(message)](connection, message)

    # --- what an agent may say ---------------------------------------------------------------------------

    def _on_hello(self, connection: Connection, message: Hello) -> None:
        connection.say(Notice(code="again", text="hello was said already; connect again to change it"))

    def _on_signal(self, connection: Connection, message: Signal) -> None:
        if not self._cycles_of(connection).relay(connection.agent.name, message):
            connection.say(Notice(code="no-test", text=f"you are in no running test {message.test!r}"))

    def _on_ended(self, connection: Connection, message: TestEnded) -> None:
        # A test that was cancelled meanwhile is nobody's fault.
        self._cycles_of(connection).end(connection.agent.name, message)

    def _on_health(self, connection: Connection, message: Health) -> None:
        connection.told.append(Told(now_us(), message))
        connection.passive_off = message.passive_off
        self._realms.of(connection.agent.tenant).own_switches.take(connection.agent.name, message)
        self._cycles_of(connection).switched_there(connection, message.local_off)

    def _on_nat(self, connection: Connection, message: NatReport) -> None:
        connection.nat = message

    def _on_notice(self, connection: Connection, message: Notice) -> None:
        log.warning(
            "agent objects name=%s code=%r text=%r",
            connection.agent.name,
            message.code[:40],
            message.text[:200],
        )

    def _cycles_of(self, connection: Connection) -> Cycles:
        return self._realms.of(connection.agent.tenant).cycles


def router(signalling: Signalling) -> APIRouter:
    """Build the route ``WS /v1/control``."""
    routes = APIRouter(prefix="/v1")

    @routes.websocket("/control", dependencies=[agents_only()])
    async def control(socket: WebSocket) -> None:
        await signalling.serve(socket)

    return routes


async def _hello(socket: WebSocket) -> Hello | None:
    try:
        async with asyncio.timeout(HELLO_S):
            message: FromAgent = decode_from_agent(await _receive(socket))
    except (TimeoutError, MessageError, Gone):
        return None
    return message if isinstance(message, Hello) else None


async def _until_over(
    socket: WebSocket, connection: Connection, reading: Coroutine[None, None, None]
) -> None:
    """Read and write until the agent hangs up or the server wants it gone."""
    reader = asyncio.create_task(reading)
    writer = asyncio.create_task(_write(socket, connection))
    try:
        over: set[asyncio.Future[Any]] = {reader, writer, connection.closing}
        await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        hung_up = reader.done()
    finally:
        for task in (reader, writer):
            task.cancel()
        await asyncio.gather(reader, writer, return_exceptions=True)
    if connection.closing.done() and not hung_up:
        await _close(socket, *connection.closing.result())


async def _write(socket: WebSocket, connection: Connection) -> None:
    while True:
        await socket.send_text(encode(await connection.outgoing.get()))


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(RuntimeError):  # Starlette's word for: the agent was faster
        await socket.close(code, reason)


async def _receive(socket: WebSocket) -> str | bytes:
    event = await socket.receive()
    if event["type"] == "websocket.disconnect":
        raise Gone
    text: str | None = event.get("text")
    data: bytes = event.get("bytes") or b""
    return data if text is None else text


def _own_host(socket: WebSocket) -> str:
    """Name this server as the agent reached it: where it will find the STUN responder too."""
    host = socket.url.hostname or "127.0.0.1"
    return f"[{host}]" if ":" in host else host
