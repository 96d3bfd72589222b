"""Names of routes, what is a change, and how many flows are laid over each other."""

from __future__ import annotations

from agent.mesh.route import MAX_ROUTES, NO_ROUTE, FanHop, Routes, compare, fan_out, route_id
from analytics.measurement import RouteChange

VIA_X = ("10.0.0.1", "10.0.1.1", "10.0.9.1")
VIA_Y = ("10.0.0.1", "10.0.2.1", "10.0.9.1")


def test_a_name_is_the_same_everywhere() -> None:
    assert route_id(VIA_X) == "f8de48ce6fb5"
    assert route_id(VIA_X) != route_id(VIA_Y) != route_id(VIA_X[:2])
    assert route_id(("", "", "")) == route_id(()) == ""


def test_same_compatible_and_changed() -> None:
    assert compare(VIA_X, VIA_X) is RouteChange.SAME
    assert compare(VIA_X, ("10.0.0.1", "", "10.0.9.1")) is RouteChange.COMPATIBLE
    assert compare(VIA_X, VIA_Y) is RouteChange.CHANGED
    assert compare(VIA_X, VIA_X[:2]) is RouteChange.CHANGED


def test_a_silent_hop_changes_neither_the_name_nor_what_is_known() -> None:
    routes = Routes()
    partly = ("10.0.0.1", "", "10.0.9.1")
    first = routes.settle(partly)
    assert (first.id, first.change) == (route_id(partly), RouteChange.FIRST)
    filled = routes.settle(VIA_X)
    assert (filled.id, filled.change) == (first.id, RouteChange.COMPATIBLE)
    assert routes.settle(VIA_X).change is RouteChange.SAME
    assert routes.settle(VIA_Y).change is RouteChange.CHANGED  # the gap is known by now


def test_between_two_ways_that_are_both_there_nothing_changes() -> None:
    routes = Routes()
    changes = [routes.settle(route).change for route in (VIA_X, VIA_Y, VIA_X, VIA_X, VIA_Y)]
    assert changes == [
        RouteChange.FIRST,
        RouteChange.CHANGED,
        RouteChange.BALANCED,
        RouteChange.SAME,
        RouteChange.BALANCED,
    ]


def test_a_trace_without_an_answer_says_nothing_and_is_not_remembered() -> None:
    routes = Routes()
    assert routes.settle(("", "")) == routes.settle(()) == NO_ROUTE
    assert routes.settle(VIA_X).change is RouteChange.FIRST


def test_the_memory_is_bounded() -> None:
    routes = Routes()
    for number in range(MAX_ROUTES + 1):
        routes.settle((f"10.0.0.{number}",))
    assert routes.settle(("10.0.0.0",)).change is RouteChange.CHANGED  # long forgotten


def test_flows_laid_over_each_other() -> None:
    assert fan_out([VIA_X, VIA_Y, VIA_X, ("10.0.0.1", "", "10.0.9.1")]) == [
        FanHop(1, (("10.0.0.1", 4),), 0),
        FanHop(2, (("10.0.1.1", 2), ("10.0.2.1", 1)), 1),
        FanHop(3, (("10.0.9.1", 4),), 0),
    ]
    assert fan_out([]) == []
    assert fan_out([("10.0.0.1",), VIA_X])[2] == FanHop(3, (("10.0.9.1", 1),), 1)
