"""What an agent's tests have in common: whether an order is followed, and with what."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from agent import health
from agent.config import Config
from agent.credential import Credential
from agent.errors import AgentError
from agent.identity import Identity
from agent.mesh.asked import AskedServers
from agent.mesh.budget import Budget
from agent.mesh.icmp import QuotedHeaders
from agent.mesh.peers import KnownPeers
from agent.mesh.refusals import Refusals
from agent.mesh.trust import Guard, Me
from agent.orders import Link, Result, Tester
from agent.own_policy import OwnPolicy
from analytics.wire import TestOrder

log: Final = logging.getLogger("pathgrade.agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all tests of one enrolled life use."""

    config: Config
    credential: Credential
    identity: Identity
    guard: Guard
    refusals: Refusals  # counted over all tests
    unsigned: Counter[str]  # readings of peers that were not signed, over all tests
    headers: QuotedHeaders | None
    trains: Budget
    own: OwnPolicy
    servers: AskedServers


def guard_of(credential: Credential, identity: Identity, peers: KnownPeers, own: OwnPolicy) -> Guard:
    """Make the guard that judges orders."""
    return Guard(
        Me(credential.agent, credential.tenant, identity.fingerprint),
        credential.server_key,
        peers,
        monotonic_ns=time.monotonic_ns,
        own=own,
    )


def tester_of(shared: Shared) -> Tester:
    """Make what runs an order, if the guard admits it."""
    from agent.mesh.pair import SystemClock, refuse_pair, test_pair  # noqa: PLC0415  # 30 MB, where the mesh is on
    from agent.mesh.trace import Known  # noqa: PLC0415  # likewise

    config, credential = shared.config, shared.credential
    clock, known = SystemClock(), Known(headers=shared.headers)

    async def test(order: TestOrder, link: Link) -> Result:
        who = {"me": credential.agent, "tenant": credential.tenant}
        try:
            grant = await asyncio.to_thread(shared.guard.admit, order)
        except AgentError as error:
            log.warning("test refused peer=%s why=%r try=%r", order.peer, str(error), error.remedy)
            return await refuse_pair(order, str(error), **who, signalling=link, clock=clock)
        with _counted(shared.own):
            admitted = await shared.servers.admit(order.ice_servers)
            order = msgspec.structs.replace(order, ice_servers=admitted.servers)
            result = await test_pair(
                order,
                **who,
                identity=shared.identity,
                signalling=link,
                clock=clock,
                budget=shared.trains,
                known=known,
                turn_ca=config.turn_ca,
                not_asked=admitted.not_asked,
                most_bytes=grant.most_bytes,
            )
        shared.refusals.update(result.refusals)
        shared.unsigned.update(result.unsigned)
        return result

    return test


@contextmanager
def _counted(own: OwnPolicy) -> Iterator[None]:
    """Tell the host's own policy what a test took, however it ends."""
    cpu_us, before = health.cpu_us(), health.sent_bytes() or 0
    try:
        yield
    finally:
        sent = (health.sent_bytes() or 0) - before
        own.ended(sent_bytes=sent, cpu_us=health.cpu_us() - cpu_us)
