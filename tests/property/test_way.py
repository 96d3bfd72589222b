"""Routes, router ledger, MTU search and ICMP parsers: what holds whatever comes."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from agent.mesh.icmp import ExtensionError, Label, labels_of, mpls_labels, quoted_datagram, quoted_datagram6
from agent.mesh.ledger import RouterLedger
from agent.mesh.mtu import MAX_PACKETS, MtuSearch
from agent.mesh.route import Routes, compare, compatible, fan_out, merge, route_id
from analytics.measurement import RouteChange
from tests.unit.mesh.test_icmp import STACK, extension, obj, v4

ADDRESSES = st.sampled_from(["", "10.0.0.1", "10.0.0.2", "10.0.0.3"])
ROUTES = st.lists(ADDRESSES, max_size=5).map(tuple)
PAIRS = st.lists(st.tuples(ADDRESSES, ADDRESSES), max_size=5).map(
    lambda hops: (tuple(a for a, _ in hops), tuple(b for _, b in hops))
)


@given(PAIRS)
def test_being_compatible_is_mutual_and_merging_keeps_it(
    pair: tuple[tuple[str, ...], tuple[str, ...]],
) -> None:
    one, other = pair
    assert compatible(one, other) == compatible(other, one)
    assert compatible(one, one)
    if compatible(one, other):
        merged = merge(one, other)
        assert merged == merge(other, one)
        assert compatible(merged, one)
        assert compatible(merged, other)
        assert merged.count("") <= min(one.count(""), other.count(""))


@given(ROUTES, ROUTES)
def test_a_change_is_what_is_neither_the_same_nor_compatible(
    one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    told = compare(one, other)
    assert (told is RouteChange.SAME) == (one == other)
    assert (told is RouteChange.CHANGED) == (not compatible(one, other))


@given(st.lists(ROUTES, max_size=30))
def test_a_route_that_is_seen_twice_in_a_row_keeps_its_name(seen: list[tuple[str, ...]]) -> None:
    routes = Routes()
    for route in seen:
        first, second = routes.settle(route), routes.settle(route)
        assert first.id == second.id
        assert second.change in (RouteChange.SAME, RouteChange.COMPATIBLE, RouteChange.UNKNOWN)
        assert bool(first.id) == any(route)
        assert len(route_id(route)) in (0, 12)


@given(st.lists(ROUTES, max_size=20))
def test_every_flow_is_counted_once_a_hop(routes: list[tuple[str, ...]]) -> None:
    for hop in fan_out(routes):
        assert sum(count for _, count in hop.flows) + hop.silent == len(routes)


ASKS = st.lists(
    st.tuples(st.integers(1, 3), ADDRESSES, st.integers(0, 5000), st.integers(0, 3000)), max_size=40
)


@given(ASKS)
def test_no_router_is_ever_asked_twice_within_the_interval(asks: list[tuple[int, str, int, int]]) -> None:
    ledger, booked, now = RouterLedger(1000), [], 0
    for ttl, router, later, patience in asks:
        now += later
        at = ledger.reserve(ttl, router, from_ns=now, until_ns=now + patience)
        if at is not None:
            assert now <= at <= now + patience
            booked.append((at, ttl, router))
    for place, (at, ttl, router) in enumerate(booked):
        for other_at, other_ttl, other in booked[:place]:
            if (router and router == other) or (ttl == other_ttl and "" in (router, other)):
                assert abs(at - other_at) >= 1000


@given(st.integers(0, 2000), st.none() | st.integers(0, 70_000), st.booleans(), st.data())
def test_a_search_never_claims_more_than_got_through(
    mtu: int, says: int | None, v6: bool, data: st.DataObject
) -> None:
    search = MtuSearch(v6)
    through = []
    while (size := search.next()) is not None:
        if size <= mtu and not data.draw(st.booleans(), "lost"):
            through.append(size)
            search.acknowledged()
        elif size > mtu and says is not None:
            search.too_long(says)
        else:
            search.silent()
    found = search.found()
    assert found.packets <= MAX_PACKETS
    assert found.mtu == max(through, default=None)
    assert (found.black_hole is None) == (found.mtu is None)


LABELS = st.builds(Label, st.integers(0, 2**20 - 1), st.integers(0, 7), st.just(False), st.integers(0, 255))


@given(st.lists(LABELS, min_size=1, max_size=16))
def test_every_stack_is_read_as_it_was_written(labels: list[Label]) -> None:
    stack = [*labels[:-1], Label(labels[-1].label, labels[-1].traffic_class, True, labels[-1].ttl)]
    words = (e.label << 12 | e.traffic_class << 9 | int(e.bottom) << 8 | e.ttl for e in stack)
    assert mpls_labels(extension(obj(b"".join(word.to_bytes(4, "big") for word in words)))) == tuple(stack)


@given(
    st.sampled_from([b"", extension(obj(STACK)), extension(obj(STACK))[:9], b"\x20\0\0\0"]),
    st.binary(max_size=80),
)
def test_extensions_of_whatever_bytes_are_read_or_refused(start: bytes, rest: bytes) -> None:
    with contextlib.suppress(ExtensionError):
        assert len(mpls_labels(start + rest)) <= 16
    labels_of(bytes(100) + start + rest, None, headers=28)
    with contextlib.suppress(ExtensionError):
        labels_of(start + rest, len(start), headers=28)


@given(st.integers(0, 60), st.binary(max_size=80))
def test_quoted_headers_of_whatever_bytes_are_read_or_refused(cut: int, rest: bytes) -> None:
    for start in (v4(0)[:cut], b"\x03" + bytes(7) + b"\x60" + bytes(cut), b""):
        with contextlib.suppress(ExtensionError):
            quoted_datagram("10.0.0.1", start + rest)
        with contextlib.suppress(ExtensionError):
            quoted_datagram6("::1", start + rest)
