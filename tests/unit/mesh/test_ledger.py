"""Who may be asked when."""

from __future__ import annotations

from agent.mesh.ledger import LATE_NS, UNKNOWN, RouterLedger

S = 1_000_000_000
FAR = 100 * S


def test_two_tests_share_a_gateway_in_turns() -> None:
    ledger = RouterLedger(S)
    booked = [ledger.reserve(1, "10.0.0.1", from_ns=0, until_ns=FAR) for _ in range(3)]
    assert booked == [0, S, 2 * S]
    assert ledger.reserve(2, "10.0.0.2", from_ns=0, until_ns=FAR) == 0  # another router is not held up


def test_a_router_is_the_same_at_whatever_ttl() -> None:
    ledger = RouterLedger(S)
    ledger.asked(1, "10.0.0.1", 0)
    assert ledger.reserve(2, "10.0.0.1", from_ns=1, until_ns=FAR) == S


def test_who_is_not_known_may_be_anyone_at_that_ttl() -> None:
    ledger = RouterLedger(S)
    ledger.asked(1, "10.0.0.1", 0)
    assert ledger.reserve(1, UNKNOWN, from_ns=1, until_ns=FAR) == S
    assert ledger.reserve(1, "10.0.0.7", from_ns=1, until_ns=FAR) == 2 * S
    assert ledger.reserve(2, UNKNOWN, from_ns=1, until_ns=FAR) == 1


def test_what_finds_no_room_in_time_is_not_booked() -> None:
    ledger = RouterLedger(S)
    ledger.asked(1, "10.0.0.1", 0)
    assert ledger.reserve(1, "10.0.0.1", from_ns=0, until_ns=S - 1) is None
    assert ledger.reserve(1, "10.0.0.1", from_ns=0, until_ns=S) == S


def test_leaving_late_counts_from_when_it_left() -> None:
    ledger = RouterLedger(S)
    assert ledger.reserve(1, "10.0.0.1", from_ns=0, until_ns=FAR) == 0
    ledger.asked(1, "10.0.0.1", 300)
    assert ledger.reserve(1, "10.0.0.1", from_ns=0, until_ns=FAR) == S + 300


def test_who_booked_waits_on_where_the_one_before_left_too_late() -> None:
    ledger = RouterLedger(S)
    assert [ledger.reserve(1, "10.0.0.1", from_ns=0, until_ns=FAR) for _ in range(2)] == [0, S]
    assert ledger.held_ns(1, "10.0.0.1", 0) == 0  # nobody left yet
    ledger.asked(1, "10.0.0.1", 3 * LATE_NS)
    assert ledger.held_ns(1, "10.0.0.1", S) == 2 * LATE_NS
    assert ledger.held_ns(1, UNKNOWN, S) == 2 * LATE_NS
    assert ledger.held_ns(2, "10.0.0.2", S) == 0
    assert ledger.held_ns(1, "10.0.0.1", S + 2 * LATE_NS) == 0
