"""Where time was added, against what is usual; silence where the hops do not tell."""

from __future__ import annotations

from analytics.added import Added, Silence, added
from analytics.measurement import Hop
from tests.unit.analytics.facts import hop, trace

USUAL = {
    (1, "192.168.7.1"): 1_700,
    (2, "203.0.113.1"): 3_600,
    (3, "198.51.100.9"): 11_000,
    (5, "198.51.100.66"): 48_900,
}
PATH = ["192.168.7.1", "203.0.113.1", "198.51.100.9", None, "198.51.100.66", "10.20.0.5"]


def hops(*rtts_us: int | None) -> list[Hop]:
    told = [(address or "", rtt) for address, rtt in zip(PATH, rtts_us, strict=True)]
    return trace(*told)


def find(*rtts_us: int | None) -> Added | Silence:
    total = rtts_us[-1]
    assert total is not None
    return added(hops(*rtts_us), USUAL, rtt_us=total, usual_rtt_us=49_200)


def test_the_leg_that_added_it_is_between_two_hops() -> None:
    found = find(1_600, 213_900, 221_200, None, 259_400, 259_800)
    assert found == Added(after_ttl=1, up_to_ttl=2, added_us=210_200, of_us=210_600)


def test_a_router_that_is_slow_to_answer_is_not_slow_to_forward() -> None:
    found = find(1_700, 90_000, 11_000, None, 88_900, 89_200)
    assert isinstance(found, Added)
    assert (found.after_ttl, found.up_to_ttl) == (3, 5)


def test_beyond_the_last_router_it_is_the_end() -> None:
    found = find(1_700, 3_600, 11_000, None, 48_900, 89_200)
    assert found == Added(after_ttl=5, up_to_ttl=6, added_us=40_000, of_us=40_000)


def test_in_front_of_the_first_router_it_is_the_host_or_its_lan() -> None:
    found = find(41_700, 43_600, 51_000, None, 88_900, 89_200)
    assert found == Added(after_ttl=0, up_to_ttl=1, added_us=40_000, of_us=40_000)


def test_an_increase_that_does_not_reach_the_end_is_nothing() -> None:
    assert find(1_700, 90_000, 91_000, None, 92_000, 49_100) == Silence("the path is no slower than usual")


def test_spread_over_the_path_it_has_no_place() -> None:
    found = find(11_700, 23_600, 41_000, None, 88_900, 89_200)
    assert found == Silence("no single part of the path explains it")


def test_another_router_at_a_place_is_another_path() -> None:
    moved = [*hops(1_700, 3_600, 11_000, None, 88_900, 89_200)]
    moved[2] = hop(3, "198.51.100.200", 30_000)
    found = added(moved, USUAL, rtt_us=89_200, usual_rtt_us=49_200)
    assert found == Silence("the route changed", rerouted=True)


def test_without_hops_known_before_nothing_is_said() -> None:
    found = added(hops(1_700, 3_600, 11_000, None, 88_900, 89_200), {}, rtt_us=89_200, usual_rtt_us=49_200)
    assert found == Silence("no router answers now and usually")
