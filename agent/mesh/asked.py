"""Which STUN and TURN servers this agent asks: its server names them, and must not make a scanner of it.

A TURN server is asked over UDP, TCP or TLS, and whether it answers is told to the peer and the server. So a
hostile server could have an agent knock at any port of its host's network. Held against that, whatever the
server says: the host's own list (``[policy] servers``), addresses where no such server is, and few different
ones in an hour.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from msgspec.structs import replace

from agent.errors import RungError
from agent.mesh.servers import named, relay_rung, resolved
from agent.retry import StateLine
from analytics.measurement import Rung
from analytics.wire import IceServer

log: Final = logging.getLogger("pathgrade.agent.servers")

MOST: Final = 8
"""Different addresses and ports in any 60 minutes. A fleet has one STUN server and up to three relays."""
MOST_STUN: Final = 3
HOUR_NS: Final = 3_600 * 10**9

Endpoint = tuple[str, int]
Resolve = Callable[[str], Awaitable[Endpoint]]


class NotAskedError(RungError):
    """A server that is not to be asked; of others it is only not known where they are."""


class Admitted(NamedTuple):
    """What of an order's servers is asked, and why another is not."""

    servers: list[IceServer]
    not_asked: dict[Rung | None, str]  # rung of a relay, or None: STUN


class AskedServers:
    """Judges the servers that orders and welcomes name. ``refused`` counts those that are not asked."""

    def __init__(
        self,
        allowed: Sequence[str] | None,
        *,
        own_server: str,
        monotonic_ns: Callable[[], int],
        resolve: Resolve = resolved,
    ) -> None:
        """``allowed``: hosts, as the server writes them; None: any. ``own_server``: the URL enrolled at.

        Beside a server on loopback, as in a trial on one machine, its STUN server is there too.
        """
        self.refused = 0
        self._allowed = None if allowed is None else frozenset(map(str.lower, allowed))
        self._own_host = urlsplit(own_server).hostname or ""
        self._beside_server = _is_loopback(self._own_host)
        self._monotonic_ns = monotonic_ns
        self._resolve = resolve
        self._asked: dict[Endpoint, int] = {}  # when first, within the last hour
        self._line = StateLine(log)

    async def admit(self, servers: Sequence[IceServer]) -> Admitted:
        """Give those that are asked: the first of each kind; by address, or by the name of a certificate."""
        first = {_kind_of(one.url): one for one in _first_of_each(servers)}
        judged = dict(zip(first, await self._judge([*first.values()]), strict=True))
        return Admitted(
            [one for one in judged.values() if isinstance(one, IceServer)],
            {kind: why for kind, why in judged.items() if isinstance(why, str)},
        )

    async def admit_stun(self, urls: Sequence[str]) -> list[str]:
        """As ``admit``, of plain STUN servers, of which the next is asked where one is silent."""
        named_ones = [IceServer(url=url) for url in urls if url.startswith("stun:")][:MOST_STUN]
        return [one.url for one in await self._judge(named_ones) if isinstance(one, IceServer)]

    async def _judge(self, servers: Sequence[IceServer]) -> list[IceServer | str]:
        """At once: where nobody answers for names, one wait is enough."""
        return await asyncio.gather(*map(self._judged, servers))

    async def _judged(self, server: IceServer) -> IceServer | str:
        """Give it as it is to be asked, or why it is not."""
        try:
            host = self._require_allowed(server.url)
            endpoint = await self._resolve(server.url)
            self._require_possible(host, endpoint)
            self._count(endpoint)
        except RungError as error:
            self.refused += isinstance(error, NotAskedError)
            self._line.say(f"not asked server={server.url[:200]!r} why={str(error)!r}", level=logging.WARNING)
            return f"its server is not asked: {error}"
        by_name = relay_rung(server.url) is Rung.RELAY_TLS
        return server if by_name else replace(server, url=_by_address(server.url, endpoint))

    def _require_allowed(self, url: str) -> str:
        """Give its host; before its name is looked up: that is a question to somebody, too."""
        try:
            host, _ = named(url)
        except ValueError as error:
            raise NotAskedError(f"it names no server: {error}") from error
        if self._allowed is not None and host.lower() not in self._allowed:
            raise NotAskedError("[policy] in agent.toml does not name it")
        return host

    def _require_possible(self, host: str, endpoint: Endpoint) -> None:
        ip = ipaddress.ip_address(endpoint[0])
        # A host's own name is 127.0.1.1 to itself on Debian: the server's URL is the configuration's.
        if ip.is_loopback and not (self._beside_server or host == self._own_host):
            raise NotAskedError("it is on this very host")
        # A cloud's metadata are at 169.254.169.254.
        if ip.is_link_local or ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255":
            raise NotAskedError("no server has such an address")

    def _count(self, endpoint: Endpoint) -> None:
        now_ns = self._monotonic_ns()
        self._asked = {one: at_ns for one, at_ns in self._asked.items() if at_ns > now_ns - HOUR_NS}
        if endpoint not in self._asked and len(self._asked) >= MOST:
            raise NotAskedError(f"{MOST} others were asked within the hour")
        self._asked.setdefault(endpoint, now_ns)


def _first_of_each(servers: Sequence[IceServer]) -> Iterator[IceServer]:
    """Those that a test would use (``agent.mesh.servers.options``)."""
    kinds: set[Rung | None] = set()
    for server in servers:
        if _is_of_use(server.url) and (kind := _kind_of(server.url)) not in kinds:
            kinds.add(kind)
            yield server


def _is_of_use(url: str) -> bool:
    try:
        return url.startswith("stun:") or relay_rung(url) is not None
    except ValueError:  # it is no URL
        return False


def _kind_of(url: str) -> Rung | None:
    """The rung of a relay; None: STUN."""
    return None if url.startswith("stun:") else relay_rung(url)


def _by_address(url: str, endpoint: Endpoint) -> str:
    """What is asked is what was judged, whatever the name means a moment later."""
    scheme, query = url.partition(":")[0], urlsplit(url).query
    return f"{scheme}:{endpoint[0]}:{endpoint[1]}" + (f"?{query}" if query else "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
