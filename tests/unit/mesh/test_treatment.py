"""Where protocols fare differently, in words."""

from __future__ import annotations

from typing import Any

import pytest

from agent.mesh.treatment import DSCP, DeepHop, DeepTrace, Protocol, differences


def trace(
    protocol: Protocol, *addresses: str, answer: str = "", end: bool = True, **of_last: Any
) -> DeepTrace:
    """A trace whose last hop is the end, unless told otherwise."""
    last = len(addresses)
    return DeepTrace(
        protocol=protocol,
        hops=[
            DeepHop(
                ttl=ttl,
                sent=3,
                answered=3 if address else 0,
                address=address,
                answer=answer if ttl == last else "",
                is_end=end and ttl == last,
                **(of_last if ttl == last else {}),
            )
            for ttl, address in enumerate(addresses, start=1)
        ],
    )


TCP = trace("tcp", "10.0.0.1", "10.0.1.1", "10.0.9.1", "192.0.2.10", answer="open")


@pytest.mark.parametrize(
    ("udp", "sentences"),
    [
        (trace("udp", "10.0.0.1", "10.0.1.1", "10.0.9.1", "192.0.2.10", answer="port closed"), []),
        (
            trace("udp", "10.0.0.1", "10.0.1.1", end=False),
            ["UDP vanishes after hop 2 (10.0.1.1), TCP gets through: a filter, likely."],
        ),
        (
            trace("udp", "10.0.0.1", "10.0.1.1", "10.0.9.1", end=False),
            ["UDP gets as far as hop 3 (10.0.9.1); the end answers TCP only."],
        ),
        (
            trace("udp", "10.0.0.1", "10.0.1.1", answer="filtered", end=False),
            ["UDP is refused at hop 2 by 10.0.1.1 (filtered); TCP gets through."],
        ),
        (
            trace("udp", "10.0.0.1", "10.0.1.1", "10.0.1.1", answer="filtered", end=False),
            ["UDP is refused at hop 2 by 10.0.1.1 (filtered); TCP gets through."],
        ),
        (trace("udp"), ["UDP gets no answer at all, TCP reaches the end."]),
        (
            trace("udp", "10.0.0.1", "10.0.2.1", "10.0.9.1", "192.0.2.10", answer="port closed"),
            [
                "UDP goes another way than TCP at hop 2: 10.0.2.1 instead of 10.0.1.1"
                " (a rule by protocol, or load balancing by flow)."
            ],
        ),
        (trace("udp", "10.0.0.1", "", "10.0.9.1", "192.0.2.10", answer="port closed"), []),
    ],
)
def test_udp_beside_tcp(udp: DeepTrace, sentences: list[str]) -> None:
    assert differences([udp, TCP]) == sentences


def test_a_router_that_answers_both_at_one_ttl_is_no_other_way() -> None:
    one = DeepTrace(protocol="tcp", hops=[DeepHop(ttl=1, sent=3, address="10.0.1.1", others=["10.0.2.1"])])
    other = DeepTrace(protocol="udp", hops=[DeepHop(ttl=1, sent=3, address="10.0.2.1")])
    assert differences([one, other]) == []


def test_where_dscp_is_changed_is_said_once_for_all_it_befalls() -> None:
    told = [
        DeepTrace(
            protocol=protocol,
            hops=[DeepHop(ttl=t, sent=3, address=f"10.0.0.{t}", dscp=d) for t, d in enumerate(seen, start=1)],
        )
        for protocol, seen in (("udp", (DSCP, 0, 0)), ("tcp", (DSCP, 0, None)), ("icmp", (DSCP, DSCP, None)))
    ]
    assert differences(told) == [
        "DSCP 10 comes in as 0 at hop 2 (10.0.0.2): changed there or just before, for TCP, UDP."
    ]


def test_icmp_may_be_the_one_that_gets_through() -> None:
    icmp = trace("icmp", "10.0.0.1", "10.0.1.1", "10.0.9.1", "192.0.2.10", answer="echo")
    stuck = trace("tcp", "10.0.0.1", end=False)
    assert differences([icmp, stuck]) == [
        "TCP vanishes after hop 1 (10.0.0.1), ICMP gets through: a filter, likely."
    ]
