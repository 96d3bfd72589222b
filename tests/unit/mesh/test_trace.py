"""What a trace decides, on two ends over loopback: when the MTU is searched, and what is remembered."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

import pytest

from agent.mesh.budget import Budget
from agent.mesh.climb import Climbed
from agent.mesh.conversation import Conversation
from agent.mesh.hops import MARK
from agent.mesh.mtu import UNKNOWN
from agent.mesh.pair import SystemClock
from agent.mesh.trace import MANY_PEERS, Known, Traced
from analytics import wire
from analytics.measurement import RouteChange, Rung
from analytics.wire import ProbePlan
from tests.unit.mesh.test_conversation import PlainLink, run

SHORT = ProbePlan(probes=60, interval_us=5_000, hop_rounds=1, max_ttl=2, trains=0, mtu_every=2)


def order(plan: ProbePlan, *, controlling: bool) -> wire.TestOrder:
    return wire.TestOrder(
        test="t", cycle=1, peer="p", peer_fingerprint="", controlling=controlling,
        rungs=[], ice_servers=[], plan=plan,
    )  # fmt: skip


async def traced(known: Known, plan: ProbePlan = SHORT, *, lost_percent: int = 0) -> Traced:
    """Test once, over a link that loses probes of both ends; what the one that remembers found."""
    chance = random.Random(7)
    a, b = await PlainLink.open(), await PlainLink.open()
    try:
        for link, other in ((a, b), (b, a)):
            link.join(other)
            link.fate = lambda _: (int(chance.randrange(100) >= lost_percent), 0.0)
        ends = [
            Conversation(
                Climbed(cast(Any, link), Rung.LAN, [], 0, 0),
                order(plan, controlling=link is a),
                SystemClock(),
                budget=Budget(10**9),
                known=memory,
            )
            for link, memory in ((a, known), (b, None))
        ]
        return (await asyncio.gather(*(end.measure() for end in ends)))[0].traced
    finally:
        a.transport.close()
        b.transport.close()


def test_the_mtu_is_looked_for_first_and_then_every_second_time() -> None:
    known = Known()
    found = [run(traced(known)) for _ in range(3)]
    assert [(each.mtu.mtu, each.mtu.black_hole) for each in found] == [
        (1500, False),
        (None, None),
        (1500, False),
    ]
    assert found[1].mtu.packets == 0
    assert [each.route.change for each in found] == [RouteChange.FIRST, RouteChange.SAME, RouteChange.SAME]
    assert all((each.class_sent, each.class_arrived) == (MARK, MARK) for each in found)


def test_where_much_is_lost_silence_says_nothing_of_size() -> None:
    known = Known()
    assert run(traced(known, lost_percent=20)).mtu == UNKNOWN
    assert run(traced(known)).mtu.mtu == 1500  # made up for


@pytest.mark.parametrize("plan", [{"hop_rounds": 0, "mtu_every": 0}, {"hop_rounds": 0}])
def test_a_plan_without_hops_says_nothing_of_the_route(plan: dict[str, int]) -> None:
    found = run(traced(Known(), ProbePlan(probes=5, interval_us=5_000, trains=0, **plan)))
    assert (found.hops, found.route.id, found.class_sent, found.class_arrived) == ([], "", None, None)
    assert found.mtu.mtu == (None if plan.get("mtu_every") == 0 else 1500)


def test_what_is_remembered_is_bounded() -> None:
    known = Known()
    first = known.peer("p0")
    for number in range(MANY_PEERS):
        known.peer(f"p{number + 1}")
    assert len(known.peers) == MANY_PEERS
    assert known.peer("p0") is not first
