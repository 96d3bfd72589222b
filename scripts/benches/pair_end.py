"""One end of a pair test in a process of its own: ``python -m benches.pair_end NAME FOLDER``.

It is what an agent runs, ``agent.mesh.pair.test_pair``, without a server in between: the first line of its
standard input is the order, every further one is what the peer signalled. It prints its signals, then one
line that begins with '=' and holds an ``EndTold``. FOLDER is for the end's identity.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Final
from unittest import mock

import msgspec

from agent.identity import load_or_create
from agent.mesh import conversation, pair
from agent.mesh.probe import Requester
from agent.mesh.stamps import StampingLoop
from analytics import wire
from benches.told import EndTold, Trip

TENANT: Final = "bench"


class _Watched(Requester):
    """The product's own requester, kept so that its round trips can be told one by one."""

    made: list[_Watched] = []  # noqa: RUF012  # one list for the process is what is meant

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self.made.append(self)

    def told(self) -> list[Trip]:
        """Give every request with what came of it."""
        return [
            Trip(
                t1_ns=trip.t1_process,
                t3_ns=trip.t3_process,
                rtt_ns=trip.rtt_ns if trip.t4 else None,
                kernel=trip.kernel,
                spoiled=trip.spoiled,
            )
            for trip in self.trips
        ]


class _Pipes:
    """Signalling over this process's own pipes."""

    def __init__(self, reader: asyncio.StreamReader, test: str) -> None:
        self._reader = reader
        self._test = test

    async def send(self, body: wire.SignalBody) -> None:
        """Hand it to the bench, which hands it to the peer."""
        _say(wire.encode(wire.Signal(test=self._test, body=body)))

    async def receive(self) -> wire.SignalBody:
        """Wait for the peer's next."""
        message = wire.decode_from_server(await self._reader.readline())
        assert isinstance(message, wire.Signal)
        return message.body


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _run(name: str, folder: Path) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    order = wire.decode_from_server(await reader.readline())
    assert isinstance(order, wire.TestOrder)
    result = await pair.test_pair(
        order,
        me=name,
        tenant=TENANT,
        identity=load_or_create(folder, name),
        signalling=_Pipes(reader, order.test),
        clock=pair.SystemClock(),
    )
    trips = [trip for requester in _Watched.made for trip in requester.told()]
    told = EndTold(reading=result.reading, hops=result.hops, trips=trips)
    _say("=" + msgspec.json.encode(told).decode())


def main() -> None:
    """Be the end that the command line names."""
    with (
        mock.patch.object(conversation, "Requester", _Watched),
        asyncio.Runner(loop_factory=StampingLoop) as runner,
    ):
        runner.run(_run(sys.argv[1], Path(sys.argv[2])))


if __name__ == "__main__":
    main()
