from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.mesh.packet import FLAG_KERNEL_RECEIVED, MOST_TOLD, Kind, Probe, SentStamp
from agent.mesh.probe import Requester, percentile
from agent.mesh.stamps import Arrival
from analytics.measurement import StampSource

MS = 1_000_000


@dataclass
class HandClock:
    wall: int = 10**18
    monotonic: int = 0

    def wall_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        return self.monotonic

    def pass_ns(self, ns: int) -> None:
        self.wall += ns
        self.monotonic += ns


def exchange(
    clock: HandClock,
    requester: Requester,
    *,
    rtt_ns: int = MS,
    kernel: bool = True,
    late_ns: int = 0,
    ahead_ns: int = 7_000 * MS,
) -> None:
    """One round trip; the peer's clock is 7 s ahead and it holds the request for 3 ms."""
    request, on_sent = requester.request(timer_late_ns=late_ns)
    if kernel:
        on_sent(clock.wall)
    requester.request_left(request.sequence)
    t2 = clock.wall + rtt_ns // 2 + ahead_ns
    clock.pass_ns(rtt_ns + 3 * MS)
    flags = FLAG_KERNEL_RECEIVED if kernel else 0
    reply = Probe(Kind.REPLY, request.sequence, t2 + 3 * MS - 50_000, t2, flags)
    requester.on_reply(reply, Arrival(clock.wall, kernel))
    if kernel:
        requester.on_earlier([SentStamp(request.sequence, t2 + 3 * MS)])


def test_kernel_stamps_give_the_round_trip_whatever_the_clocks_say() -> None:
    clock = HandClock()
    requester = Requester(clock)
    for n in range(1, 101):
        exchange(clock, requester, rtt_ns=n * 10_000)
    rtt = requester.summary()
    assert (rtt.n, rtt.spoiled, rtt.stamps) == (100, 0, StampSource.KERNEL)
    assert (rtt.min_us, rtt.percentiles_us[50], rtt.percentiles_us[99]) == (10, 500, 990)
    assert rtt.ipdv_us == 5


def test_a_stamp_that_never_came_leaves_its_sample_out() -> None:
    clock = HandClock()
    requester = Requester(clock)
    for n in range(10):
        exchange(clock, requester, kernel=n != 4)
    rtt = requester.summary()
    assert (rtt.n, rtt.stamps, rtt.spoiled) == (9, StampSource.KERNEL, 0)


def test_without_kernel_stamps_a_late_process_spoils_its_own_samples() -> None:
    clock = HandClock()
    requester = Requester(clock)
    for n in range(10):
        exchange(clock, requester, kernel=False, late_ns=6 * MS if n < 3 else 0)
    rtt = requester.summary()
    assert (rtt.n, rtt.spoiled, rtt.stamps) == (7, 3, StampSource.USER)


def test_a_slow_send_without_a_kernel_stamp_is_spoiled() -> None:
    clock = HandClock()
    requester = Requester(clock)
    request, _ = requester.request()
    clock.pass_ns(2 * MS)
    requester.request_left(request.sequence)
    requester.on_reply(Probe(Kind.REPLY, 1, clock.wall, clock.wall, 1), Arrival(clock.wall, True))
    assert requester.summary().spoiled == 1


def test_a_stepped_clock_spoils_what_it_touched_and_nothing_else() -> None:
    clock = HandClock()
    requester = Requester(clock)
    exchange(clock, requester)
    request, on_sent = requester.request()
    on_sent(clock.wall)
    t2 = clock.wall
    clock.wall += 3_600_000 * MS  # an hour, while the request is under way
    requester.on_reply(Probe(Kind.REPLY, request.sequence, t2 + 1, t2, 1), Arrival(clock.wall, True))
    exchange(clock, requester)
    rtt = requester.summary()
    assert (rtt.n, rtt.spoiled) == (2, 1)
    assert rtt.percentiles_us[99] == 1000


class HeldUpClock(HandClock):
    """The process is held up for 20 ms before every fifth time that it reads a clock."""

    reads: int = 0

    def held_up(self) -> None:
        self.reads += 1
        if self.reads % 5 == 0:
            self.pass_ns(20 * MS)

    def wall_ns(self) -> int:
        self.held_up()
        return super().wall_ns()

    def monotonic_ns(self) -> int:
        self.held_up()
        return super().monotonic_ns()


def test_a_process_that_is_held_up_between_two_clocks_is_no_step() -> None:
    clock = HeldUpClock()
    requester = Requester(clock)
    for _ in range(20):
        exchange(clock, requester)
    assert (requester.summary().n, requester.summary().spoiled) == (20, 0)


def test_a_stepped_clock_at_the_peer_spoils_too() -> None:
    clock = HandClock()
    requester = Requester(clock)
    requester.request()
    requester.on_reply(Probe(Kind.REPLY, 1, 5, 3_600_000 * MS, 1), Arrival(clock.wall, True))
    assert requester.summary().spoiled == 1


@pytest.mark.parametrize("step_ns", [10 * MS, -10 * MS, 7_200_000 * MS])
def test_a_clock_stepped_at_the_peer_between_two_probes_is_no_delay_variation(step_ns: int) -> None:
    clock = HandClock()
    requester = Requester(clock)
    for n in range(20):
        exchange(clock, requester, rtt_ns=MS + n % 2 * 20_000, ahead_ns=step_ns if n >= 10 else 0)
    rtt = requester.summary()
    assert (rtt.n, rtt.spoiled, rtt.ipdv_us) == (20, 0, 10)


def test_replies_to_nothing_are_refused_and_copies_ignored() -> None:
    clock = HandClock()
    requester = Requester(clock)
    assert not requester.on_reply(Probe(Kind.REPLY, 1, 0, 0), Arrival(0, True))
    exchange(clock, requester)
    assert requester.on_reply(Probe(Kind.REPLY, 1, 0, 0), Arrival(clock.wall + 500 * MS, True))
    assert requester.summary().percentiles_us[99] == 1000


def test_an_empty_test_has_no_numbers() -> None:
    rtt = Requester(HandClock()).summary()
    assert (rtt.n, rtt.min_us, rtt.ipdv_us, rtt.percentiles_us) == (0, None, None, {})


def test_what_only_lacks_the_peers_kernel_stamp_is_named() -> None:
    clock = HandClock()
    requester = Requester(clock)
    for n in range(50):
        exchange(clock, requester, kernel=n != 4)
    for sequence in (2, 7):
        requester.trips[sequence - 1].t3_kernel = 0
    assert requester.lacking == [2, 7]  # 5 has no kernel stamp of its own: nothing to ask for
    for trip in requester.trips:
        trip.t3_kernel = 0
    assert len(requester.lacking) == MOST_TOLD


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50), st.integers(0, 100))
def test_a_percentile_is_a_sample(values: list[int], percent: int) -> None:
    ordered = sorted(values)
    value = percentile(ordered, percent)
    assert value in ordered
    assert sum(v <= value for v in ordered) >= percent / 100 * len(ordered)
