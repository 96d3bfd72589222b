"""The control connection against servers that break it at the worst moments, on loopback."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from websockets.utils import accept_key

from agent.control import Control
from agent.credential import Credential
from agent.tls import proven
from analytics.wire import Hello
from server.agent_tls import listener_context
from server.authority import create

GOING_AWAY = b"\x88\x02\x03\xe9"  # a close frame, 1001
UNREADABLE = b"\x82\x01\xc1"  # a binary frame that is no message
HELLO = Hello(version="0", boot="00c0ffee", mesh=False, passive="off")

Serve = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def leave_at_once(accepted: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say goodbye in the same segment as the answer to the handshake: the hello finds a closed socket."""
    writer.write(accepted + GOING_AWAY)
    await reader.read()


async def leave_with_nonsense(
    accepted: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Wait for the hello, send what cannot be read, and be gone before the complaint about it."""
    writer.write(accepted)
    await reader.read(1)
    writer.write(UNREADABLE + GOING_AWAY)
    await reader.read()


def accepting(request: bytes) -> bytes:
    """Answer a WebSocket handshake."""
    lines = (line.partition(b": ") for line in request.splitlines())
    key = next(value for name, _, value in lines if name.lower() == b"sec-websocket-key")
    head = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(key.decode())}",
    ]
    return "\r\n".join([*head, "", ""]).encode()


@pytest.mark.parametrize("serve", [leave_at_once, leave_with_nonsense])
def test_a_server_that_leaves_while_the_agent_speaks_is_connected_to_again(serve: Serve) -> None:
    async def scenario() -> None:
        third = asyncio.Event()
        connections = 0

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            if connections == 3:
                third.set()
            await serve(accepting(await reader.readuntil(b"\r\n\r\n")), reader, writer)
            writer.close()

        authority = create()
        server = await asyncio.start_server(
            connected, "127.0.0.1", 0, ssl=listener_context(authority, Counter())
        )
        port = server.sockets[0].getsockname()[1]
        life = asyncio.create_task(control(port, authority.der).run())
        again = asyncio.create_task(third.wait())
        async with asyncio.timeout(30):
            await asyncio.wait({life, again}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            life.result()
        life.cancel()
        await asyncio.wait({life})
        server.close()

    asyncio.run(scenario())


def control(port: int, authority: bytes) -> Control:
    credential = Credential(
        server=f"https://127.0.0.1:{port}",
        agent="pacs",
        tenant="default",
        server_key=b"",
        authority=authority,
        certificate=b"",
        got_s=0,
        life_s=60,
    )
    return Control(
        credential,
        proven(authority),
        HELLO,
        on_message=lambda _: None,
        on_lost=lambda: None,
        backoff=lambda _: 0.01,
    )
