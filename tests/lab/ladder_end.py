"""One end of many pair tests, in a process of its own, for test_ladder.py.

Every line of stdin is an order or what the peer of a test signalled. On stdout: signals, and one line that
begins with '=' and holds the reading of a test that is done. It ends with its stdin.
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
    """Signalling of one test over this process's own pipes."""

    def __init__(self, test: str) -> None:
        self.inbox: asyncio.Queue[wire.SignalBody] = asyncio.Queue()
        self._test = test

    async def send(self, body: wire.SignalBody) -> None:
        say(wire.encode(wire.Signal(test=self._test, body=body)))

    async def receive(self) -> wire.SignalBody:
        return await self.inbox.get()


class End:
    def __init__(self, name: str, folder: Path, turn_ca: Path) -> None:
        self._name = name
        self._identity = load_or_create(folder, name)
        self._turn_ca = turn_ca
        self._pipes: dict[str, Pipes] = {}

    async def run(self, reader: asyncio.StreamReader) -> None:
        async with asyncio.TaskGroup() as tests:
            while line := await reader.readline():
                message = wire.decode_from_server(line)
                if isinstance(message, wire.TestOrder):
                    tests.create_task(self._test(message))
                else:
                    assert isinstance(message, wire.Signal)
                    self._of(message.test).inbox.put_nowait(message.body)

    def _of(self, test: str) -> Pipes:
        """A signal may come before the order it belongs to."""
        if test not in self._pipes:
            self._pipes[test] = Pipes(test)
        return self._pipes[test]

    async def _test(self, order: wire.TestOrder) -> None:
        result = await pair.test_pair(
            order,
            me=self._name,
            tenant="default",
            identity=self._identity,
            signalling=self._of(order.test),
            clock=pair.SystemClock(),
            budget=Budget(0),  # no trains: what is asked is which rung
            turn_ca=self._turn_ca,
        )
        say("=" + msgspec.json.encode(result.reading).decode())


async def main(name: str, folder: Path, turn_ca: Path) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await End(name, folder, turn_ca).run(reader)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        runner.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
