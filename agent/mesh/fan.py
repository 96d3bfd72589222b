"""All the ways there are: many flows to one end, each from a port of its own, traced at once (ECMP).

Plain UDP, TTL-limited, one TTL short of the end: no application ever gets one of these. Routers in common are
asked once a second by all flows together, so sixteen flows take sixteen seconds, however long the way.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

from agent.mesh import hops
from agent.mesh.ledger import INTERVAL_NS, RouterLedger
from agent.mesh.packet import TOKEN_BYTES
from agent.mesh.route import BRANCH_FLOWS, Route
from agent.mesh.stamps import OnSent, StampingLoop, StampingTransport
from agent.mesh.times import Clock
from analytics.wire import ProbePlan

MAX_FLOWS: Final = 64


async def routes_of_flows(
    open_socket: Callable[[], socket.socket],
    address: tuple[str, int],
    *,
    routers: int,
    clock: Clock,
    ledger: RouterLedger,
    flows: int = BRANCH_FLOWS,
    interval_ns: int = INTERVAL_NS,
) -> dict[int, Route]:
    """Trace ``flows`` flows to ``address`` as far as the router ``routers`` hops away: local port -> route.

    Needs a ``StampingLoop``. ``open_socket`` gives bound UDP sockets; the caller's ledger is shared with
    whatever else this agent traces, and ``interval_ns`` is that ledger's.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, StampingLoop)
    plan = ProbePlan(hop_rounds=1, max_ttl=routers)
    patience_s = flows * interval_ns / 1e9
    sockets = [open_socket() for _ in range(flows)]
    transports = [StampingTransport(loop, sock, asyncio.DatagramProtocol()) for sock in sockets]
    try:
        traced = await asyncio.gather(
            *(
                _trace(each, address, plan, clock=clock, ledger=ledger, patience_s=patience_s)
                for each in transports
            )
        )
        return {int(sock.getsockname()[1]): route for sock, route in zip(sockets, traced, strict=True)}
    finally:
        for transport in transports:
            transport.close()


async def _trace(
    transport: StampingTransport,
    address: tuple[str, int],
    plan: ProbePlan,
    *,
    clock: Clock,
    ledger: RouterLedger,
    patience_s: float,
) -> Route:
    tracer = hops.HopTracer(hops.PeerTarget(address[0], os.urandom(TOKEN_BYTES)), plan.max_ttl)
    transport.on_icmp = tracer.on_icmp

    def send(data: bytes, ttl: int, on_sent: OnSent) -> bool:
        return transport.send(data, address, ttl=ttl, on_sent=on_sent)

    await hops.run(
        tracer,
        plan,
        send,
        wall_ns=clock.wall_ns,
        loop_time=asyncio.get_running_loop().time,
        ledger=ledger,
        patience_s=patience_s,
    )
    return tuple(tracer.router(ttl) for ttl in range(1, plan.max_ttl + 1))
