"""One end of a pair test in a process of its own, for test_mesh_pair.py.

Line 1 of stdin is the order; every further line is what the peer signalled. On stdout: signals, then one line
that begins with '=' and holds the reading and the hops.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from agent.identity import load_or_create
from agent.mesh import pair
from agent.mesh.budget import Budget
from agent.mesh.stamps import StampingLoop
from analytics import wire


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Pipes:
    """Signalling over this process's own pipes."""

    def __init__(self, reader: asyncio.StreamReader, test: str) -> None:
        self._reader = reader
        self._test = test

    async def send(self, body: wire.SignalBody) -> None:
        say(wire.encode(wire.Signal(test=self._test, body=body)))

    async def receive(self) -> wire.SignalBody:
        message = wire.decode_from_server(await self._reader.readline())
        assert isinstance(message, wire.Signal)
        return message.body


async def main(name: str, folder: Path) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    order = wire.decode_from_server(await reader.readline())
    assert isinstance(order, wire.TestOrder)
    result = await pair.test_pair(
        order,
        me=name,
        tenant="default",
        identity=load_or_create(folder, name),
        signalling=Pipes(reader, order.test),
        clock=pair.SystemClock(),
        budget=Budget(100_000_000),
    )
    say("=" + msgspec.json.encode([result.reading, result.hops]).decode())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        runner.run(main(sys.argv[1], Path(sys.argv[2])))
