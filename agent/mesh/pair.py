"""READ FIRST: one pair test, from the server's order to a reading and its hops.

Both ends run ``test_pair`` with the same order. They climb down the ladder until a rung connects (``climb``),
then measure over it, each its own direction: probes and hops at the same time, the peer's counters, packet
trains one way after the other, receipts, farewell. Nothing but cancellation gets out of ``test_pair``: a
peer that cannot be reached is a result too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from agent.errors import AgentError
from agent.identity import Identity
from agent.mesh.budget import Budget
from agent.mesh.climb import Climbed, Climber, Signalling
from agent.mesh.conversation import Conversation
from agent.mesh.hops import HopSummary
from agent.mesh.measured import Measured, Spread
from agent.mesh.packet import Counters
from agent.mesh.receipt import Reason, Signing
from agent.mesh.refusals import Refusals
from agent.mesh.servers import Means
from agent.mesh.stamps import StampingLoop
from agent.mesh.times import Clock, SystemClock
from agent.mesh.trace import Known, Traced
from analytics.measurement import Hop, Reading, Receipt, Rung
from analytics.wire import Abandon, TestOrder

__all__ = ["Clock", "PairResult", "Signalling", "SystemClock", "test_pair"]

MAX_ERROR: Final = 500
MAX_OTHERS: Final = 5


@dataclass(frozen=True, slots=True)
class PairResult:
    """What one end of a pair test has to tell."""

    reading: Reading
    hops: list[Hop]
    refused: int = 0  # packets that were forged, damaged, or nobody's
    refusals: Refusals = field(default_factory=Refusals)  # the same by kind
    receipt: Receipt | None = None  # None: none was asked for
    unsigned: Counter[str] = field(
        default_factory=Counter
    )  # readings of the peer, by agent.mesh.receipt.Reason


async def test_pair(
    order: TestOrder,
    *,
    me: str,
    tenant: str,
    identity: Identity,
    signalling: Signalling,
    clock: Clock,
    budget: Budget,
    addresses: Sequence[str] | None = None,  # noqa: PT028  # tests a pair of agents, not pytest's business
    known: Known | None = None,  # noqa: PT028  # as above
    turn_ca: Path | None = None,  # noqa: PT028  # as above
    not_asked: Mapping[Rung | None, str] = MappingProxyType({}),  # noqa: PT028  # as above
    most_bytes: int | None = None,  # noqa: PT028  # as above
) -> PairResult:
    """Test ``order.peer``; must run in a ``StampingLoop``.

    ``budget`` is this agent's, over all its tests. ``addresses`` are the local addresses to use (None: all of
    this host's but loopback); ``known`` is what this agent's tests share and remember (None: nothing yet);
    ``turn_ca`` is the authority that TURN servers' certificates lead to (None: the system's);
    ``not_asked`` says why a server of the order was left out of it (``agent.mesh.asked``);
    ``most_bytes`` is what this end may send once it is connected (None: as the plan goes). Never raises
    for reasons of the network, the peer or the time limit. A reading of rung ``none`` without ``error`` says
    that every rung was tried and none got through; with ``error``, that the test broke off before it was
    known.
    """
    if not isinstance(asyncio.get_running_loop(), StampingLoop):
        raise RuntimeError("test_pair needs agent.mesh.stamps.StampingLoop")
    test = _PairTest(
        order, me=me, tenant=tenant, clock=clock, budget=budget, known=known, most_bytes=most_bytes
    )
    if order.receipt:
        test.signing = Signing(
            order, me=me, tenant=tenant, key=identity.identity_key, wall_us=lambda: clock.wall_ns() // 1_000
        )
    means = Means(order.ice_servers, addresses, turn_ca, not_asked)
    climber = Climber(order, identity=identity, signalling=signalling, clock=clock, means=means)
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
    test = _PairTest(order, me=me, tenant=tenant, clock=clock, budget=Budget(0))
    test.error = why
    await _abandon(signalling, why)
    return test.result("")


class _PairTest:
    """What is known of a test so far."""

    def __init__(
        self,
        order: TestOrder,
        *,
        me: str,
        tenant: str,
        clock: Clock,
        budget: Budget,
        known: Known | None = None,
        most_bytes: int | None = None,
    ) -> None:
        self.climbed: Climbed | None = None
        self.error = ""
        self.signing: Signing | None = None
        self._order = order
        self._me = me
        self._tenant = tenant
        self._clock = clock
        self._budget = budget
        self._known = known
        self._most_bytes = most_bytes
        self._started_us = clock.wall_ns() // 1000
        self._measured: Measured | None = None
        self._finished: Reading | None = None  # what comes after it changes it no more
        self._receipt: Receipt | None = None
        self._refused = 0
        self._refusals = Refusals()

    async def run(self, climber: Climber) -> None:
        """Connect and measure."""
        self.climbed = await climber.climb()
        conversation = Conversation(
            self.climbed,
            self._order,
            self._clock,
            budget=self._budget,
            known=self._known,
            most_bytes=self._most_bytes,
            signing=self.signing,
        )
        try:
            self._measured = await conversation.measure()
            self._finished = self._reading(climber.ladder.failed_text)
            self._receipt = self._alone(self._finished, Reason.SILENT)
            self._receipt = await conversation.receipt(self._finished)
            await conversation.leave()
        finally:
            self._refused = conversation.refused
            self._refusals = conversation.refusals + self.climbed.link.refusals
            await self.climbed.link.close()

    def result(self, rungs_failed: str) -> PairResult:
        """As facts."""
        hop_rows = self._hops(self._measured.traced) if self._measured else []
        reading, receipt = self._finished, self._receipt
        if reading is None:
            reading = self._reading(rungs_failed)
            receipt = self._alone(reading, Reason.BROKE_OFF if reading.error else Reason.NOT_CONNECTED)
        unsigned = self.signing.refused if self.signing else Counter[str]()
        return PairResult(reading, hop_rows, self._refused, self._refusals, receipt, unsigned)

    def _alone(self, reading: Reading, why: Reason) -> Receipt | None:
        return self.signing.sign(reading, why) if self.signing else None

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
            connect_total_us=climbed.connect_total_us if climbed else None,
            error=self.error[:MAX_ERROR],
        )
        return _with_numbers(reading, self._measured) if self._measured else reading

    def _hops(self, traced: Traced) -> list[Hop]:
        return [self._hop(hop, traced.route.id) for hop in traced.hops]

    def _hop(self, hop: HopSummary, route_id: str) -> Hop:
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
            route_id=route_id,
            others=" ".join(hop.others[:MAX_OTHERS]),
            rate_limited=int(hop.rate_limited),
            mpls=hop.mpls,
            rewritten=hop.rewritten,
            traffic_class=hop.traffic_class,
        )


def _with_numbers(reading: Reading, measured: Measured) -> Reading:
    rtt, traced = measured.rtt, measured.traced
    return msgspec.structs.replace(
        reading,
        sent=measured.sent,
        **_received(measured.counters),
        rtt_n=rtt.n,
        rtt_min_us=rtt.min_us,
        **{f"rtt_p{percent}_us": value for percent, value in rtt.percentiles_us.items()},
        ipdv_us=rtt.ipdv_us,
        **_one_direction(measured),
        **_under_load(measured),
        stamps=rtt.stamps,
        spoiled=rtt.spoiled,
        **_percentiles("timer_late", measured.timers_late, 50, 99),
        sent_bytes=measured.sent_bytes,
        route_id=traced.route.id,
        route_change=traced.route.change,
        path_mtu=traced.mtu.mtu,
        mtu_black_hole=None if traced.mtu.black_hole is None else int(traced.mtu.black_hole),
        mtu_probes=traced.mtu.packets,
        class_sent=traced.class_sent,
        class_arrived=traced.class_arrived,
    )


def _received(counters: Counters) -> dict[str, int | None]:
    longest = max((length for _, length in counters.runs), default=0)
    return {
        "received": counters.received,
        "duplicated": counters.duplicated,
        "reordered": counters.reordered,
        "loss_bursts": counters.bursts,
        "loss_longest": None if counters.bursts is None else longest,
    }


def _one_direction(measured: Measured) -> dict[str, int]:
    told: dict[str, int] = {}
    if (delay := measured.one_way) is not None:
        told |= {
            "one_way_min_us": delay.min_us,
            "one_way_p50_us": delay.p50_us,
            "one_way_bound_us": delay.bound_us,
        }
    if (above := measured.above) is not None:
        told |= {"queueing_p50_us": above.p50_us, "queueing_p95_us": above.p95_us}
    return told


def _under_load(measured: Measured) -> dict[str, Any]:
    capacity, loaded = measured.capacity, measured.loaded
    return {
        "capacity_kbps": capacity.capacity_kbps,
        "capacity_trust": capacity.trust,
        "capacity_why": capacity.why,
        "rtt_loaded_n": len(loaded.ordered_ns) if loaded is not None else 0,
        **_percentiles("rtt_loaded", loaded, 50, 95),
    }


def _percentiles(name: str, spread: Spread | None, *percents: int) -> dict[str, int]:
    return {f"{name}_p{percent}_us": spread.us(percent) for percent in percents} if spread is not None else {}


async def _abandon(signalling: Signalling, why: str) -> None:
    """Tell the peer not to wait; if even that fails, its own time limit tells it."""
    with contextlib.suppress(AgentError, OSError, TimeoutError):
        async with asyncio.timeout(1):
            await signalling.send(Abandon(why=why[:200]))
