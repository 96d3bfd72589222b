"""An agent's way with the raw ICMP sockets, for test_hops.py: open them, stop being root, read."""

from __future__ import annotations

import asyncio
import socket
import sys

from agent import privileges
from agent.mesh.icmp import QuotedDatagram, QuotedHeaders


async def first(headers: QuotedHeaders, to: str) -> QuotedDatagram:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[QuotedDatagram] = loop.create_future()
    headers.tell(lambda seen: None if told.done() else told.set_result(seen))
    headers.watch(loop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 2)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 42)
        async with asyncio.timeout(30):
            for _ in range(20):
                sock.sendto(b"probe", (to, 9))
                done, _ = await asyncio.wait([told], timeout=1)
                if done:
                    break
            return await told


opened = QuotedHeaders.open()
assert opened is not None
privileges.drop("off", privileges.Account(61184, 61184, exists=False))
assert QuotedHeaders.open() is None
seen = asyncio.run(first(opened, sys.argv[1]))
print(seen.router, seen.traffic_class, seen.payload.decode())  # noqa: T201  # read by the test
