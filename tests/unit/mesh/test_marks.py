"""Traffic class, whole datagrams and quoted destinations on real loopback sockets, IPv4 and IPv6."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import pytest

from agent.mesh.hops import HEADERS, MARK
from agent.mesh.options import IP_MTU_DISCOVER, IPV6_MTU_DISCOVER
from agent.mesh.stamps import Arrival, IcmpError, StampingLoop, StampingTransport
from agent.mesh.wires import DirectWire

T = TypeVar("T")
LOOPBACKS = pytest.mark.parametrize("address", ["127.0.0.1", "::1"])


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        return runner.run(main)


class End(asyncio.DatagramProtocol):
    """Keeps what came in, and how."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[bytes, Arrival]] = []
        self.came = asyncio.Event()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        arrival = cast(StampingLoop, asyncio.get_running_loop()).arrival
        assert arrival is not None
        self.arrivals.append((data, arrival))
        self.came.set()


async def open_end(address: str) -> tuple[StampingTransport, End]:
    transport, end = await asyncio.get_running_loop().create_datagram_endpoint(End, local_addr=(address, 0))
    return cast(StampingTransport, transport), end


@LOOPBACKS
def test_a_datagram_carries_the_class_it_was_given_and_no_other_does(address: str) -> None:
    async def main() -> list[tuple[bytes, int | None]]:
        (here, _), (there, end) = await open_end(address), await open_end(address)
        wire = DirectWire(here, there.get_extra_info("sockname")[:2])
        wire.send_near(b"marked", ttl=9, on_sent=lambda _: None, traffic_class=MARK)
        wire.send(b"plain")
        async with asyncio.timeout(30):
            while len(end.arrivals) < 2:
                end.came.clear()
                await end.came.wait()
        here.close()
        there.close()
        return [(data, arrival.traffic_class) for data, arrival in end.arrivals]

    assert run(main()) == [(b"marked", MARK), (b"plain", 0)]


@LOOPBACKS
def test_only_the_one_datagram_is_whole_or_not_sent(address: str) -> None:
    async def main() -> tuple[bool, int, int]:
        (here, _), (there, end) = await open_end(address), await open_end(address)
        sock = here.get_extra_info("socket")
        option = (41, IPV6_MTU_DISCOVER) if address == "::1" else (0, IP_MTU_DISCOVER)
        before = sock.getsockopt(*option)
        sent = DirectWire(here, there.get_extra_info("sockname")[:2]).send_whole(bytes(1_472))
        async with asyncio.timeout(30):
            await end.came.wait()
        changed = sock.getsockopt(*option) - before
        here.close()
        there.close()
        return sent, len(end.arrivals[0][0]), changed

    assert run(main()) == (True, 1_472, 0)


@LOOPBACKS
def test_the_far_end_is_written_as_the_kernel_writes_it(address: str) -> None:
    async def main() -> tuple[str, int] | None:
        transport, _ = await open_end(address)
        there = ("0:0:0:0:0:0:0:1" if address == "::1" else address, 9)
        wire = DirectWire(transport, there)
        assert wire.header_bytes == HEADERS[address == "::1"]
        transport.close()
        return wire.far_end

    assert run(main()) == (address, 9)


@LOOPBACKS
def test_a_refused_datagram_tells_where_it_was_going(address: str) -> None:
    told: list[IcmpError] = []

    async def main() -> tuple[str, int]:
        family = socket.AF_INET6 if address == "::1" else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
            closed = sock.getsockname()[:2]
        transport, _ = await open_end(address)
        heard = asyncio.get_running_loop().create_future()
        transport.on_icmp = heard.set_result
        transport.send(b"anyone?", closed)
        async with asyncio.timeout(30):
            told.append(await heard)
        transport.close()
        return str(closed[0]), int(closed[1])

    closed = run(main())
    (error,) = told
    assert (error.destination, error.quoted, error.mtu, error.extension_at) == (
        closed,
        b"anyone?",
        None,
        None,
    )
