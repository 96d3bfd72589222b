"""READ FIRST: one pair test, from the server's order to a reading and its hops.

Both ends run ``test_pair`` with the same order. They climb down the ladder until a rung connects (``climb``),
then measure over it, each its own direction: probes and hops at the same time, the peer's counters, packet
trains one way after the other, farewell. Nothing but cancellation gets out of ``test_pair``: a peer that
cannot be reached is a result too.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from agent.errors import AgentError
from agent.identity import Identity
from agent.mesh.climb import Climbed, Climber, Signalling
from agent.mesh.conversation import Conversation, Measured
from agent.mesh.hops import HopSummary
from agent.mesh.probe import Clock
from agent.mesh.refusals import Refusals
from agent.mesh.stamps import StampingLoop
from analytics.measurement import Hop, Reading, Rung
from analytics.wire import Abandon, TestOrder

__all__ = ["Clock", "PairResult", "Signalling", "SystemClock", "test_pair"]

MAX_ERROR: Final = 500


class SystemClock:
    """The clocks of this host."""

    def wall_ns(self) -> int:
        """As ``Clock``."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """As ``Clock``."""
        return time.monotonic_ns()


@dataclass(frozen=True, slots=True)
class PairResult:
    """What one end of a pair test has to tell."""

    reading: Reading
    hops: list[Hop]
    refused: int = 0  # packets that were forged, damaged, or nobody's
    refusals: Refusals = field(default_factory=Refusals)  # the same by kind


async def test_pair(
    order: TestOrder,
    *,
    me: str,
    tenant: str,
    identity: Identity,
    signalling: Signalling,
    clock: Clock,
    addresses: Sequence[str] | None = None,  # noqa: PT028  # tests a pair of agents, not pytest's business
) -> PairResult:
    """Test ``order.peer``; must run in a ``StampingLoop``.

    ``addresses`` are the local addresses to use (None: all of this host's but loopback). Never raises for
    reasons of the network, the peer or the time limit. A reading of rung ``none`` without ``error`` says that
    every rung was tried and none got through; with ``error``, that the test broke off before it was known.
    """
    if not isinstance(asyncio.get_running_loop(), StampingLoop):
        raise RuntimeError("test_pair needs agent.mesh.stamps.StampingLoop")
    test = _PairTest(order, me=me, tenant=tenant, clock=clock)
    climber = Climber(order, identity=identity, signalling=signalling, clock=clock, addresses=addresses)
    try:
        async with asyncio.timeout(order.deadline_us / 1e6):
            await test.run(climber)
    except TimeoutError:
        test.error = f"the test did not end within {order.deadline_us / 1e6:.0f} s"
    except (AgentError, OSError) as error:
        test.error = "" if climber.ladder.current is None else str(error)
    if test.climbed is None:
        await _abandon(signalling, test.error)
    return test.result(climber.ladder.failed_text)


async def refuse_pair(
    order: TestOrder, why: str, *, me: str, tenant: str, signalling: Signalling, clock: Clock
) -> PairResult:
    """Refuse an order that is not proven: a reading that says why; nothing goes to the peer but that word."""
    test = _PairTest(order, me=me, tenant=tenant, clock=clock)
    test.error = why
    await _abandon(signalling, why)
    return test.result("")


class _PairTest:
    """What is known of a test so far."""

    def __init__(self, order: TestOrder, *, me: str, tenant: str, clock: Clock) -> None:
        self.climbed: Climbed | None = None
        self.error = ""
        self._order = order
        self._me = me
        self._tenant = tenant
        self._clock = clock
        self._started_us = clock.wall_ns() // 1000
        self._measured: Measured | None = None
        self._refused = 0
        self._refusals = Refusals()

    async def run(self, climber: Climber) -> None:
        """Connect and measure."""
        self.climbed = await climber.climb()
        conversation = Conversation(self.climbed, self._order, self._clock)
        try:
            self._measured = await conversation.measure()
        finally:
            self._refused = conversation.refused
            self._refusals = conversation.refusals + self.climbed.link.refusals
            await self.climbed.link.close()

    def result(self, rungs_failed: str) -> PairResult:
        """As facts."""
        hop_rows = [self._hop(hop) for hop in self._measured.hops] if self._measured else []
        return PairResult(self._reading(rungs_failed), hop_rows, self._refused, self._refusals)

    def _reading(self, rungs_failed: str) -> Reading:
        order, climbed = self._order, self.climbed
        reading = Reading(
            tenant=self._tenant,
            cycle=order.cycle,
            test=order.test,
            src=self._me,
            dst=order.peer,
            started_us=self._started_us,
            # A wall clock that was set back must not make a test end before it began.
            ended_us=max(self._started_us, self._clock.wall_ns() // 1000),
            rung=climbed.rung if climbed else Rung.NONE,
            rungs_failed=rungs_failed,
            local_candidate=str(climbed.link.local) if climbed else "",
            remote_candidate=str(climbed.link.remote) if climbed else "",
            connect_us=climbed.connect_us if climbed else None,
            error=self.error[:MAX_ERROR],
        )
        return _with_numbers(reading, self._measured) if self._measured else reading

    def _hop(self, hop: HopSummary) -> Hop:
        return Hop(
            tenant=self._tenant,
            cycle=self._order.cycle,
            test=self._order.test,
            src=self._me,
            dst=self._order.peer,
            ttl=hop.ttl,
            address=hop.address,
            is_end=int(hop.is_end),
            sent=hop.sent,
            answered=hop.answered,
            rtt_min_us=hop.min_us,
            rtt_p50_us=hop.p50_us,
            rtt_p95_us=hop.p95_us,
        )


def _with_numbers(reading: Reading, measured: Measured) -> Reading:
    rtt = measured.rtt
    return msgspec.structs.replace(
        reading,
        sent=measured.sent,
        received=measured.counters.received,
        duplicated=measured.counters.duplicated,
        reordered=measured.counters.reordered,
        rtt_n=rtt.n,
        rtt_min_us=rtt.min_us,
        **{f"rtt_p{percent}_us": value for percent, value in rtt.percentiles_us.items()},
        ipdv_us=rtt.ipdv_us,
        capacity_kbps=measured.capacity.capacity_kbps,
        capacity_trust=measured.capacity.trust,
        stamps=rtt.stamps,
        spoiled=rtt.spoiled,
    )


async def _abandon(signalling: Signalling, why: str) -> None:
    """Tell the peer not to wait; if even that fails, its own time limit tells it."""
    with contextlib.suppress(AgentError, OSError, TimeoutError):
        async with asyncio.timeout(1):
            await signalling.send(Abandon(why=why[:200]))
