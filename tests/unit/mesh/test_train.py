from __future__ import annotations

import random

import pytest

from agent.mesh.packet import Raw, RawKind, TrainComing
from agent.mesh.stamps import Arrival
from agent.mesh.dispersion import Estimate, estimate
from agent.mesh.train import TrainReceiver
from analytics.measurement import CapacityTrust

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
    assert found([(i, 10**18) for i in range(PACKETS)]) == Estimate(None, CapacityTrust.NONE)


def test_too_few_packets_say_nothing() -> None:
    assert found(even(10)[:15]) == Estimate(None, CapacityTrust.NONE)


def test_a_train_mostly_lost_is_at_least() -> None:
    assert found(even(10)[:40]) == Estimate(pytest.approx(10_000, rel=1e-3), AT_LEAST)


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


def test_stamps_of_the_process_say_nothing() -> None:
    train = receiver()
    for index, stamp_ns in even(10):
        train.on_datagram(raw(index), Arrival(stamp_ns, kernel=index != 7))
    result = train.result(2 * 10**18)
    assert result.capacity_kbps is None
    assert result.trust is CapacityTrust.NONE


def test_as_fast_as_it_was_sent_means_the_sender_was_the_limit() -> None:
    train = receiver()
    for index, stamp_ns in even(100):
        train.on_datagram(raw(index), Arrival(stamp_ns, True))
    result = train.result(2 * 10**18)
    assert _judge(result, sent_kbps=2_000_000).trust is MEASURED
    assert _judge(result, sent_kbps=110_000).trust is AT_LEAST


def test_measured_trains_beat_lower_bounds() -> None:
    some = [Estimate(50, AT_LEAST), Estimate(10, MEASURED), Estimate(12, MEASURED), Estimate(11, MEASURED)]
    assert _best(some) == Estimate(11, MEASURED)
    assert _best(some[:1]) == Estimate(50, AT_LEAST)
    assert _best([]) == Estimate(None, CapacityTrust.NONE)
