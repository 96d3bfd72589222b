from __future__ import annotations

import random
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.mesh.dispersion import PILED_UP, Estimate, delivered_kbps, estimate, unknown
from agent.mesh.packet import Raw, RawKind, TrainComing, TrainResult
from agent.mesh.probe import RoundTrip
from agent.mesh.stamps import Arrival, SentTrain
from agent.mesh.train import (
    Outcome,
    Sent,
    Size,
    TrainReceiver,
    Trains,
    best,
    judge,
    least_forward_ns,
    most_bytes,
    next_size,
    within,
)
from analytics.measurement import CapacityTrust
from analytics.wire import ProbePlan

PACKETS = 128
BYTES = 1228
MEASURED, AT_LEAST = CapacityTrust.MEASURED, CapacityTrust.AT_LEAST


def gap_ns(mbps: float) -> float:
    return BYTES * 8e3 / mbps


def even(mbps: float) -> list[tuple[int, int]]:
    return [(i, 10**18 + round(i * gap_ns(mbps))) for i in range(PACKETS)]


def found(arrivals: list[tuple[int, int]]) -> Estimate:
    return estimate(arrivals, packets=PACKETS, packet_bytes=BYTES)


@pytest.mark.parametrize("mbps", [1, 10, 100, 1000])
def test_evenly_spaced_packets_give_the_rate(mbps: int) -> None:
    assert found(even(mbps)) == Estimate(pytest.approx(mbps * 1000, rel=1e-3), MEASURED)


def test_a_token_bucket_burst_at_the_head_does_not_count() -> None:
    burst = [(i, 10**18 + i * 1000) for i in range(20)]
    rest = [(i, 10**18 + 20_000 + round((i - 20) * gap_ns(10))) for i in range(20, PACKETS)]
    assert found(burst + rest).capacity_kbps == pytest.approx(10_000, rel=1e-3)


def test_loss_behind_the_bottleneck_leaves_gaps_in_time() -> None:
    lossy = [(i, t) for i, t in even(10) if random.Random(i).random() > 0.2]
    assert found(lossy) == Estimate(pytest.approx(10_000, rel=0.01), MEASURED)


def test_loss_in_front_of_the_bottleneck_leaves_none() -> None:
    kept = [i for i in range(PACKETS) if random.Random(i).random() > 0.2]
    closed_up = [(i, 10**18 + round(n * gap_ns(10))) for n, i in enumerate(kept)]
    assert found(closed_up) == Estimate(pytest.approx(10_000, rel=0.01), MEASURED)


def test_bunched_arrivals_are_at_least() -> None:
    bunched = [(i, 10**18 + (i // 16) * 16 * round(gap_ns(100))) for i in range(PACKETS)]
    estimated = found(bunched)
    assert estimated.trust is AT_LEAST
    assert estimated.capacity_kbps is not None
    assert estimated.capacity_kbps <= 120_000


def test_arrivals_at_one_instant_say_nothing() -> None:
    assert found([(i, 10**18) for i in range(PACKETS)]) == unknown("all packets arrived at one instant")


def test_too_few_packets_say_nothing() -> None:
    assert found(even(10)[:15]) == unknown("15 of 128 packets arrived")


def test_a_train_mostly_lost_is_at_least() -> None:
    few = found(even(10)[:40])
    assert few == Estimate(pytest.approx(10_000, rel=1e-3), AT_LEAST, "only 40 of 128 packets arrived")


def test_small_bunches_do_no_harm() -> None:
    """A timer of 30 us at 1 Gbit/s lets three packets through at once."""
    ticks = [(i, 10**18 + -(-round(i * gap_ns(1000)) // 30_000) * 30_000) for i in range(PACKETS)]
    assert found(ticks) == Estimate(pytest.approx(1_000_000, rel=0.02), MEASURED)


def test_a_burst_past_the_middle_leaves_the_last_quarter() -> None:
    burst = [(i, 10**18 + i * 1000) for i in range(80)]
    rest = [(i, 10**18 + 80_000 + round((i - 80) * gap_ns(10))) for i in range(80, PACKETS)]
    assert found(burst + rest) == Estimate(pytest.approx(10_000, rel=1e-3), MEASURED)


def test_what_piled_up_before_a_receiver_that_was_held_up_is_no_rate() -> None:
    """200 Mbit/s; the receiver sleeps through most of the train, then takes a packet every 18 us."""
    early = [(i, 10**18 + round(i * gap_ns(200))) for i in range(10)]
    woken_ns = 10**18 + round(100 * gap_ns(200))
    late = [(i, woken_ns + i * 18_000) for i in range(10, PACKETS)]
    told = found(early + late)
    assert (told.trust, told.why) == (AT_LEAST, PILED_UP)
    assert told.capacity_kbps is not None
    assert told.capacity_kbps <= 200_000


def receiver() -> TrainReceiver:
    return TrainReceiver(TrainComing(0, PACKETS, 1200), b"12345678", 28, announced_ns=0)


def raw(index: int, token: bytes = b"12345678", length: int = 1200) -> Raw:
    return Raw(RawKind.TRAIN, token, index, length=length)


def test_only_its_own_datagrams_belong_to_a_train() -> None:
    train = receiver()
    arrival = Arrival(5, True)
    assert train.on_datagram(raw(0), arrival)
    assert not train.on_datagram(raw(1, token=b"........"), arrival)
    assert not train.on_datagram(raw(PACKETS), arrival)
    assert not train.on_datagram(raw(1, length=1000), arrival)


def test_a_train_is_settled_when_whole_or_silent() -> None:
    train = receiver()
    assert not train.result(1_000_000_000).settled
    assert train.result(2_100_000_000).settled
    for index, stamp_ns in even(10)[:-1]:
        train.on_datagram(raw(index), Arrival(stamp_ns, True))
    last_ns = even(10)[-2][1]
    assert not train.result(last_ns + 1).settled
    assert train.result(last_ns + 400_000_000).settled
    train.on_datagram(raw(PACKETS - 1), Arrival(even(10)[-1][1], True))
    whole = train.result(last_ns + 1)
    assert whole.settled
    assert whole.received == PACKETS
    assert whole.capacity_kbps == pytest.approx(10_000, rel=1e-3)
    assert (whole.first_ns, whole.last_ns) == (even(10)[0][1], even(10)[-1][1])


def test_stamps_of_the_process_say_nothing() -> None:
    train = receiver()
    for index, stamp_ns in even(10):
        train.on_datagram(raw(index), Arrival(stamp_ns, kernel=index != 7))
    result = train.result(2 * 10**18)
    assert result.capacity_kbps is None
    assert result.trust is CapacityTrust.NONE


# --- what only the sender knows -----------------------------------------------------------------------------

BEGAN_NS = 2 * 10**18  # by a clock of its own
FORWARD_NS = -(10**18) + 5_000_000  # 5 ms, and the clocks are 1e18 ns apart


def sent(mbps: float = 5_000, packets: int = PACKETS) -> Sent:
    left = SentTrain(True, BEGAN_NS, packets - 1, round((packets - 1) * gap_ns(mbps)))
    return Sent(packets, BYTES, left)


def result_of(arrivals: list[tuple[int, int]], *, late_ns: int = 0) -> TrainResult:
    """Of a train whose first packet took 5 ms, and ``late_ns`` more."""
    shift_ns = BEGAN_NS + FORWARD_NS + late_ns - arrivals[0][1]
    train = receiver()
    for index, stamp_ns in arrivals:
        train.on_datagram(raw(index), Arrival(stamp_ns + shift_ns, True))
    return train.result(3 * 10**18)


def test_as_fast_as_it_was_sent_means_the_sender_was_the_limit() -> None:
    result = result_of(even(100))
    assert judge(result, sent(2_000), FORWARD_NS).trust is MEASURED
    assert judge(result, sent(110), FORWARD_NS).trust is AT_LEAST


def test_a_receiver_held_up_from_the_start_on_is_seen_by_the_sender() -> None:
    """All of a train at 200 Mbit/s waited for the receiver, which then took a packet every 18 us."""
    arrivals = [(i, 10**18 + i * 18_000) for i in range(PACKETS)]
    result = result_of(arrivals, late_ns=round(PACKETS * gap_ns(200)))
    assert (result.trust, result.capacity_kbps) == (MEASURED, pytest.approx(546_000, rel=0.01))
    told = judge(result, sent(), FORWARD_NS)
    assert (told.trust, told.why) == (AT_LEAST, PILED_UP)
    assert told.capacity_kbps is not None
    assert told.capacity_kbps <= 200_000
    assert judge(result_of(arrivals), sent(), FORWARD_NS).trust is MEASURED


def test_a_train_that_the_kernel_did_not_take_says_so() -> None:
    left = SentTrain(False, 0, 0, 0)
    told = judge(result_of(even(100)), Sent(PACKETS, BYTES, left), FORWARD_NS)
    assert told == unknown("this host's kernel did not take the train")


def outcome(packets: int, kbps: int | None, trust: CapacityTrust = MEASURED) -> Outcome:
    took_ns = round(BYTES * 8e6 / (kbps or 1_000) * (packets - 1))
    result = TrainResult(settled=True, received=packets, first_ns=1, last_ns=1 + took_ns)
    return Outcome(sent(packets=packets), result, Estimate(kbps, trust))


def test_the_longest_train_counts_and_of_equals_the_median_of_the_measured() -> None:
    some = [outcome(16, 99)] + [outcome(80, kbps) for kbps in (10, 12, 11)] + [outcome(80, 50, AT_LEAST)]
    assert best(some) == Estimate(11, MEASURED)
    assert best([outcome(16, 99), outcome(80, 50, AT_LEAST)]) == Estimate(50, AT_LEAST)
    assert best([outcome(16, 99), outcome(80, None, CapacityTrust.NONE)]) == Estimate(99, MEASURED)
    assert best([outcome(52, 1_000), outcome(52, 1_010)]) == Estimate(1_005, MEASURED)
    assert best([]) == unknown("")


def sizes(kbps: int, plan: ProbePlan = ProbePlan()) -> list[int]:  # noqa: B008  # a frozen default
    done: list[Outcome] = []
    while (size := next_size(plan, BYTES, done)) is not None:
        done.append(outcome(size.packets, kbps))
    return [one.sent.packets for one in done]


@pytest.mark.parametrize(
    ("kbps", "packets"),
    [(64, [16]), (800, [16]), (1_000, [16, 25]), (10_000, [16, 32, 80]), (1_000_000, [16, 52, 52])],
)
def test_a_slow_path_is_not_flooded(kbps: int, packets: list[int]) -> None:
    assert sizes(kbps) == packets


def test_a_plan_may_want_several_trains_or_short_ones() -> None:
    assert sizes(100_000, ProbePlan(trains=3)) == [16, 32, 80, 80, 80]
    assert sizes(100_000, ProbePlan(train_packets=16)) == [16]
    assert sizes(100_000, ProbePlan(trains=0)) == [16, 32]  # never asked: a test without trains sends none


def test_only_a_fast_path_gets_segments() -> None:
    plan = ProbePlan()
    assert next_size(plan, BYTES, [outcome(16, 100_000)]) == Size(32, 1)
    assert next_size(plan, BYTES, [outcome(16, 900_000)]) == Size(52, 52)


def test_a_path_that_only_seemed_fast_is_not_flooded() -> None:
    """The first train went through in a burst; the next shows the rate."""
    plan = ProbePlan()
    assert next_size(plan, BYTES, [outcome(16, 900_000), outcome(52, 1_000)]) is None
    assert next_size(plan, BYTES, [outcome(16, 900_000), outcome(52, 90_000)]) == Size(80, 1)


def test_a_test_sends_at_most_what_it_reserves() -> None:
    for plan in (ProbePlan(), ProbePlan(trains=2), ProbePlan(train_packets=20)):
        assert sum(sizes(10**6, plan)) * BYTES <= most_bytes(plan, BYTES)
    assert most_bytes(ProbePlan(), BYTES) < 300_000


# --- round trips under load ---------------------------------------------------------------------------------


def trip(t1: int, forward: int, *, kernel: bool = True) -> RoundTrip:
    t2 = t1 + forward
    return RoundTrip(t1, 0, t1, t2, t2, t2 + 10, t2 + 10 + 100_000, kernel_received=kernel)


def test_a_probe_is_under_load_if_it_would_have_arrived_during_the_train() -> None:
    lead = [trip(0, 5_000), trip(1_000, 4_000), trip(2_000, 1_000, kernel=False)]
    assert least_forward_ns(lead) == 4_000
    assert least_forward_ns([]) is None
    result = TrainResult(settled=True, received=2, first_ns=104_000, last_ns=204_000)
    behind = [trip(t1, 50_000) for t1 in (99_999, 100_000, 200_000, 200_001)]
    assert within(behind, result, 4_000) == behind[1:3]
    assert within(behind, result, None) == []


def test_few_round_trips_under_load_say_nothing() -> None:
    def loaded(count: int, packets: int = 80) -> Outcome:
        made = outcome(packets, 10_000)
        return Outcome(made.sent, made.result, made.found, [trip(n, 5) for n in range(1, count + 1)])

    assert len(Trains(unknown(""), [loaded(3), loaded(9)]).loaded) == 9
    # As many probes are beside a short train, which queues for less.
    assert len(Trains(unknown(""), [loaded(16, 32), loaded(15)]).loaded) == 15
    assert Trains(unknown(""), [loaded(4)]).loaded == []
    assert Trains(unknown("")).loaded == []


# --- properties ---------------------------------------------------------------------------------------------

rates = st.floats(0.1, 2_000)
losses = st.sets(st.integers(0, PACKETS - 1), max_size=PACKETS - 16)


@settings(deadline=None)  # the host may be busy
@given(rates, losses)
def test_ideal_arrivals_give_the_rate_whatever_was_lost_behind_the_bottleneck(
    mbps: float, lost: set[int]
) -> None:
    arrivals = [(i, t) for i, t in even(mbps) if i not in lost]
    told = found(arrivals)
    if told.trust is MEASURED:
        assert told.capacity_kbps == pytest.approx(mbps * 1000, rel=1e-3, abs=1)
    else:
        assert told.capacity_kbps is not None
        assert told.capacity_kbps <= mbps * 1000 * 1.001 + 1


@settings(deadline=None)  # the host may be busy
@given(rates, losses)
def test_ideal_arrivals_of_half_a_train_are_measured(mbps: float, lost: set[int]) -> None:
    kept = [i for i in range(PACKETS) if i not in set(sorted(lost)[: PACKETS // 2])]
    closed_up = [(i, 10**18 + round(n * gap_ns(mbps))) for n, i in enumerate(kept)]
    assert found(closed_up) == Estimate(pytest.approx(mbps * 1000, rel=1e-3, abs=1), MEASURED)


@settings(deadline=None)  # the host may be busy
@given(st.lists(st.integers(0, 200_000), min_size=16, max_size=PACKETS), st.randoms(use_true_random=False))
def test_at_least_is_never_above_what_was_delivered(gaps: list[int], dice: random.Random) -> None:
    times = [10**18 + t for t in accumulate(gaps)]
    indices = dice.sample(range(PACKETS), len(times))
    told = found(list(zip(indices, times, strict=True)))
    took_ns = times[-1] - times[0]
    if told.trust is AT_LEAST:
        assert told.capacity_kbps is not None
        assert told.capacity_kbps <= (len(times) - 1) * BYTES * 8e6 / took_ns + 1
        assert told.capacity_kbps <= (delivered_kbps(times, BYTES) or 0)


@settings(deadline=None)  # the host may be busy
@given(rates, st.integers(0, 10**9), st.floats(0.1, 100), st.integers(0, 10**9))
def test_a_receiver_that_is_held_up_never_makes_a_path_faster(
    mbps: float, stall_at_ns: int, drain_us: float, stall_ns: int
) -> None:
    """It stalls once, somewhere, and then takes in what piled up as fast as it can."""
    stall_at_ns %= round(PACKETS * gap_ns(mbps))
    begin_ns, free_ns, arrivals = BEGAN_NS + FORWARD_NS, 0, []
    for i in range(PACKETS):
        due_ns = begin_ns + round((i + 1) * gap_ns(mbps))
        if stall_at_ns <= due_ns - begin_ns < stall_at_ns + stall_ns:
            due_ns = begin_ns + stall_at_ns + stall_ns
        free_ns = max(due_ns, free_ns + round(drain_us * 1000))
        arrivals.append((i, free_ns))
    train = receiver()
    for index, stamp_ns in arrivals:
        train.on_datagram(raw(index), Arrival(stamp_ns, True))
    told = judge(train.result(4 * 10**18), sent(50_000), FORWARD_NS)
    if told.capacity_kbps is not None:
        # Half of a stall may go unseen in the margins, no more.
        assert told.capacity_kbps <= 1.17 * mbps * 1000 + 1
