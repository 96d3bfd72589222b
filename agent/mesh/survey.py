"""Asks a STUN server what the NAT in front of this host does (``agent.mesh.nat`` judges the answers).

Some twenty small datagrams and two seconds; ``mapping_lifetime`` is another matter and takes minutes. The
mapping and the filter are each looked at through a socket of their own: what one sends must not open the
filter for the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any, Final

from msgspec.structs import replace

from agent.errors import RungError
from agent.mesh import nat
from agent.mesh.binding import Binding, BindingError, Change, Endpoint, new_id, read, request
from agent.mesh.ladder import is_possible
from agent.mesh.nat import HERE, LifetimeSearch
from agent.mesh.servers import resolved
from agent.mesh.stamps import IcmpError, StampingLoop, StampingTransport
from analytics.wire import Dependence, NatReport

PAUSES_S: Final = (0.1, 0.2, 0.4, 0.5)  # for an answer, before asking again
STUN_URL: Final = re.compile(r"^stun:[^\s:\[\]]+:\d{1,5}\Z")
HAIRPIN_S: Final = 0.5
HOPS: Final = 4  # a carrier's NAT is not further away
BLOCKED: Final = NatReport(udp=False)
YES_NO: Final = {True: "yes", False: "no", None: "not measured"}


class Asker(asyncio.DatagramProtocol):
    """Binding transactions on one socket."""

    def __init__(self) -> None:
        self.routers: set[str] = set()  # that dropped a datagram of ours for its TTL
        self.refused = 0
        self._transport: Any = None
        self._waiting: dict[bytes, asyncio.Future[Binding]] = {}

    def connection_made(self, transport: Any) -> None:
        """Keep the socket."""
        self._transport = transport
        if isinstance(transport, StampingTransport):
            transport.on_icmp = self._on_icmp

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Hand an answer to whoever waits for it; what nobody waits for is counted."""
        try:
            binding = read(data)
        except BindingError:
            self.refused += 1
            return
        waiting = self._waiting.get(binding.transaction)
        if waiting is None or waiting.done():
            self.refused += 1
        else:
            waiting.set_result(binding)

    @property
    def local(self) -> Endpoint:
        """Where the socket is bound."""
        host, port = self._transport.get_extra_info("sockname")[:2]
        return host, port

    async def ask(self, server: Endpoint, change: Change | None = None) -> Binding | None:
        """One transaction; None if nothing came back."""
        transaction = new_id()
        with self.expecting(transaction) as answered:
            for pause_s in PAUSES_S:
                self.send(request(transaction, change), server)
                done, _ = await asyncio.wait([answered], timeout=pause_s)
                if done:
                    return answered.result()
        return None

    @contextlib.contextmanager
    def expecting(self, transaction: bytes) -> Iterator[asyncio.Future[Binding]]:
        """A future of what comes in for ``transaction``."""
        answered: asyncio.Future[Binding] = asyncio.get_running_loop().create_future()
        self._waiting[transaction] = answered
        try:
            yield answered
        finally:
            del self._waiting[transaction]

    def send(self, data: bytes, to: Endpoint, *, ttl: int | None = None) -> None:
        """Send one datagram, with a TTL of its own where the socket can."""
        if ttl is None:
            self._transport.sendto(data, to)
        elif isinstance(self._transport, StampingTransport):
            self._transport.send(data, to, ttl=ttl)

    def close(self) -> None:
        """Free the socket."""
        self._transport.close()

    def _on_icmp(self, error: IcmpError) -> None:
        self.routers.add(error.router)


def look(url: str, *, lifetime: bool = False) -> NatReport:
    """Survey from a process without an event loop. Raises ``RungError`` for a server that has no address."""
    if not STUN_URL.match(url):
        raise RungError(f"{url!r} is not stun:HOST:PORT", remedy="stun:192.0.2.10:3478")

    async def main() -> NatReport:
        await resolved(url)
        report = await survey([url])
        return replace(report, lifetime_s=await mapping_lifetime(url)) if lifetime and report.udp else report

    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        return runner.run(main())


def told(report: NatReport) -> list[str]:
    """A report in words, one fact a line."""
    if not report.udp:
        return ["UDP        no answer: blocked, or no STUN server there"]
    lasts = "not measured" if report.lifetime_s is None else f"at least {report.lifetime_s} s"
    return [
        f"Seen as    {report.mapped}",
        f"Mapping    {report.mapping.value}",
        f"Filter     {report.filtering.value}",
        f"Hairpin    {YES_NO[report.hairpin]}",
        f"Carrier    {YES_NO[report.cgnat]}",
        f"Lifetime   {lasts}",
    ]


async def survey(urls: Sequence[str]) -> NatReport:
    """Say what is in front of this host, by the first of the STUN servers that answers."""
    for url in urls:
        try:
            server = await resolved(url)
            async with _asker(server) as asker:
                first = await asker.ask(server)
                if first is not None and first.mapped is not None:
                    return await _look(asker, server, first.mapped, first.other)
        except (RungError, OSError):
            continue  # no way to this one
    return BLOCKED


async def _look(asker: Asker, server: Endpoint, mapped: Endpoint, other: Endpoint | None) -> NatReport:
    loopback = ip_address(server[0]).is_loopback
    if other is not None and not is_possible(*other, loopback=loopback):
        other = None
    if not is_possible(*mapped, loopback=loopback):
        # A word that would have this host knock at another's door: nothing more is asked.
        return NatReport(udp=True)
    doors = nat.targets(server, other)
    mapping, filtering, hairpin, routers = await asyncio.gather(
        _mapping(asker, doors, mapped),
        _filtering(server, doors),
        _hairpin(asker, server, mapped),
        _routers(server),
    )
    return NatReport(
        udp=True,
        mapped=mapped[0],
        mapping=mapping,
        filtering=filtering,
        hairpin=None if mapping is Dependence.NONE else hairpin,
        cgnat=nat.cgnat([asker.local[0], mapped[0], *routers]),
    )


async def _mapping(asker: Asker, doors: dict[Change, Endpoint], mapped: Endpoint) -> Dependence:
    seen: dict[Change, Endpoint | None] = {HERE: mapped}
    for change, door in doors.items():
        if change != HERE:
            answer = await asker.ask(door)
            seen[change] = answer.mapped if answer else None
    return nat.mapping(asker.local, seen)


async def _filtering(server: Endpoint, doors: dict[Change, Endpoint]) -> Dependence:
    """On a socket that has sent to no other door."""
    async with _asker(server) as asker:
        if await asker.ask(server) is None:
            return Dependence.UNKNOWN
        asked = [change for change in (nat.OTHER_BOTH, nat.OTHER_PORT) if change in doors]
        answers = await asyncio.gather(*(asker.ask(server, change) for change in asked))
    heard = dict(zip(asked, (answer is not None for answer in answers), strict=True))
    return nat.filtering({HERE: True} | heard)


async def _hairpin(asker: Asker, server: Endpoint, mapped: Endpoint) -> bool:
    """Whether a datagram to our own public address comes back in (RFC 5780 section 4.5)."""
    transaction = new_id()
    async with _asker(server) as second:
        with asker.expecting(transaction) as back:
            await second.ask(server)  # has a mapping of its own, as a peer behind the same NAT would
            second.send(request(transaction), mapped)
            done, _ = await asyncio.wait([back], timeout=HAIRPIN_S)
            return bool(done) and back.result().request


async def _routers(server: Endpoint) -> set[str]:
    """The first routers on the way out."""
    async with _asker(server) as asker:
        for ttl in range(1, HOPS + 1):
            asker.send(request(new_id()), server, ttl=ttl)
        await asyncio.sleep(HAIRPIN_S)
        return asker.routers


async def mapping_lifetime(
    url: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> int | None:
    """How long an idle mapping is sure to last, in s, up to ``nat.LIFETIME_MOST_S``; None if unknown.

    Takes up to 12 minutes and a handful of datagrams. Raises ``RungError``.
    """
    server = await resolved(url)
    search = LifetimeSearch()
    while (wait_s := search.next_s) is not None:
        alive = await _survives(server, wait_s, sleep)
        if alive is None:
            return None
        search = search.after(wait_s, alive=alive)
    return search.alive_s


async def _survives(server: Endpoint, wait_s: int, sleep: Callable[[float], Awaitable[None]]) -> bool | None:
    """Whether a new mapping is there after ``wait_s``: a second socket has the server answer into it."""
    async with _asker(server) as idle, _asker(server) as second:
        first = await idle.ask(server)
        if first is None or first.mapped is None:
            return None
        await sleep(wait_s)
        transaction = new_id()
        with idle.expecting(transaction) as heard:
            second.send(request(transaction, response_port=first.mapped[1]), server)
            done, _ = await asyncio.wait([heard], timeout=sum(PAUSES_S))
            return bool(done)


@contextlib.asynccontextmanager
async def _asker(server: Endpoint) -> AsyncIterator[Asker]:
    """A socket bound to the address that the way to ``server`` begins at."""
    loop = asyncio.get_running_loop()
    _, asker = await loop.create_datagram_endpoint(Asker, local_addr=(_own_address(server), 0))
    try:
        yield asker
    finally:
        asker.close()


def _own_address(server: Endpoint) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(server)  # sends nothing: only the route is looked up
        host: str = probe.getsockname()[0]
        return host
