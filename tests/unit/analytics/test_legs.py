"""Legs: what both ends' near hops tell, and what nobody told."""

from __future__ import annotations

import pytest

from analytics.legs import is_private, legs
from analytics.measurement import Hop, Leg, Rung
from tests.unit.analytics.facts import hop, reading, trace

HOSPITAL = trace(
    ("10.20.0.1", 300),
    ("198.51.100.1", 4_300),
    ("198.51.100.9", 9_000),
    ("203.0.113.1", 47_000),
    ("192.168.7.1", 259_000),
    ("192.168.7.20", 260_000),
)
HOTEL = trace(
    ("192.168.7.1", 1_600),
    ("203.0.113.1", 213_900),
    ("198.51.100.9", 221_200),
    ("", None),
    ("198.51.100.66", 259_400),
    ("10.20.0.5", 260_000),
)


def split(src: list[Hop], dst: list[Hop], *, rtt_us: int = 260_000, rung: Rung = Rung.SRFLX) -> list[Leg]:
    return legs(reading(rtt_us=rtt_us, rung=rung), src, dst, src_site="hospital", dst_site="hotel")


def told(found: list[Leg]) -> list[tuple[str, str, int, bool]]:
    return [(leg.kind.value, leg.site, leg.rtt_us, leg.measured) for leg in found]


def test_five_legs_from_the_near_hops_of_both_ends() -> None:
    assert told(split(HOSPITAL, HOTEL)) == [
        ("source-host", "hospital", 300, True),
        ("source-access", "hospital", 4_000, True),
        ("transit", "", 260_000 - 4_300 - 213_900, True),
        ("destination-access", "hotel", 212_300, True),
        ("destination-host", "hotel", 1_600, True),
    ]


def test_the_way_back_has_the_same_legs_the_other_way_round() -> None:
    there, back = split(HOSPITAL, HOTEL), split(HOTEL, HOSPITAL)
    assert [leg.rtt_us for leg in there] == [leg.rtt_us for leg in reversed(back)]


def test_a_router_that_answers_late_delays_its_answer_only() -> None:
    late = trace(
        ("10.20.0.1", 9_000), ("198.51.100.1", 30_000), ("198.51.100.9", 5_000), ("192.168.7.20", 260_000)
    )
    assert told(split(late, HOTEL))[:2] == [
        ("source-host", "hospital", 5_000, True),
        ("source-access", "hospital", 0, True),
    ]


def test_two_hosts_on_one_lan_have_one_leg() -> None:
    near = trace(("192.168.1.12", 210))
    assert told(split(near, [], rtt_us=200, rung=Rung.LAN)) == [("source-host", "hospital", 200, True)]


def test_a_public_host_has_no_access_leg() -> None:
    public = trace(("198.51.100.1", 400), ("198.51.100.9", 3_000), ("192.168.7.20", 260_000))
    assert [leg.kind.value for leg in split(public, HOTEL)] == [
        "source-host",
        "transit",
        "destination-access",
        "destination-host",
    ]


def test_a_private_network_all_the_way_has_no_access_legs() -> None:
    private = trace(("10.1.0.1", 400), ("10.255.0.1", 3_000), ("10.2.0.1", 9_000), ("10.2.0.5", 9_500))
    assert [leg.kind.value for leg in split(private, private)] == [
        "source-host",
        "transit",
        "destination-host",
    ]


def test_a_providers_own_nat_is_part_of_the_access() -> None:
    behind = trace(
        ("192.168.7.1", 1_000), ("100.64.0.1", 9_000), ("203.0.113.1", 12_000), ("10.20.0.5", 260_000)
    )
    assert told(split(HOSPITAL, behind))[-2:] == [
        ("destination-access", "hotel", 11_000, True),
        ("destination-host", "hotel", 1_000, True),
    ]


def test_a_silent_gateway_is_counted_in_the_access() -> None:
    silent = trace(("", None), ("203.0.113.1", 213_900), ("10.20.0.5", 260_000))
    assert told(split(HOSPITAL, silent))[-2:] == [
        ("destination-access", "hotel", 213_900, True),
        ("destination-host", "hotel", 0, False),
    ]


def test_a_silent_provider_is_counted_in_the_transit() -> None:
    silent = trace(("192.168.7.1", 1_600), ("", None), ("198.51.100.9", 221_200), ("10.20.0.5", 260_000))
    assert told(split(HOSPITAL, silent))[2:] == [
        ("transit", "", 260_000 - 4_300 - 1_600, True),
        ("destination-access", "hotel", 0, False),
        ("destination-host", "hotel", 1_600, True),
    ]


def test_an_end_that_traced_nothing_is_not_measured() -> None:
    assert told(split(HOSPITAL, []))[2:] == [
        ("transit", "", 255_700, True),
        ("destination-access", "hotel", 0, False),
        ("destination-host", "hotel", 0, False),
    ]


def test_no_hop_no_leg() -> None:
    assert split([], []) == []
    assert split(trace(("", None), ("", None)), []) == []
    assert legs(reading(rtt_min_us=None), HOSPITAL, HOTEL, src_site="a", dst_site="b") == []


def test_through_a_relay_each_end_traces_to_the_relay() -> None:
    towards_relay = trace(("10.20.0.1", 300), ("198.51.100.1", 4_300), ("198.51.100.50", 9_000))
    assert told(split(towards_relay, HOTEL, rtt_us=300_000, rung=Rung.RELAY_UDP))[2] == (
        "transit",
        "",
        300_000 - 4_300 - 213_900,
        True,
    )
    beside = trace(("10.20.0.50", 200))
    assert len(split(beside, HOTEL, rung=Rung.RELAY_UDP)) == 5


def test_what_both_ends_see_is_shared_out() -> None:
    # Two NATs on one cable: each end's provider is the other's gateway.
    src = trace(("10.20.0.1", 300), ("203.0.113.2", 9_700), ("192.168.7.20", 10_000))
    dst = trace(("192.168.7.1", 300), ("203.0.113.1", 9_700), ("10.20.0.5", 10_000))
    assert [leg.rtt_us for leg in split(src, dst, rtt_us=10_000)] == [300, 4_700, 0, 4_700, 300]


def test_an_address_that_cannot_be_read_is_nobody() -> None:
    assert split([hop(1, "gateway.local", 300)], []) == []


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("192.168.1.1", True),
        ("172.31.0.1", True),
        ("172.32.0.1", False),
        ("100.64.0.1", True),
        ("203.0.113.1", False),
        ("fd00::1", True),
        ("2001:db8::1", False),
    ],
)
def test_private_addresses(address: str, private: bool) -> None:
    assert is_private(address) is private
