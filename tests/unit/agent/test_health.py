"""What the agent says of itself: to the server and in its log."""

import os

from agent.health import health, line
from analytics.wire import MAX_CPUS, MAX_MESSAGE, decode_from_agent, encode
from ebpf.events import Counters


def test_losses_are_told_by_cpu_and_added_up() -> None:
    counters = Counters(seen=(10, 20, 0, 30), lost=(0, 2, 0, 3), missed=4)
    now = health(counters, batches_waiting=1, packets_refused=2)
    assert (now.events_seen, now.events_lost, now.events_missed) == (60, 5, 4)
    assert now.lost_by_cpu == [0, 2, 0, 3]
    assert line(now).endswith(" waiting=1 seen=60 lost=5 missed=4 lost_by_cpu=1:2,3:3")
    assert decode_from_agent(encode(now)) == now


def test_without_passive_capture_there_is_nothing_to_lose() -> None:
    now = health(None, batches_waiting=0, packets_refused=0)
    assert (now.events_seen, now.events_lost, now.events_missed, now.lost_by_cpu) == (0, 0, 0, [])
    assert line(now).endswith(" seen=0 lost=0 missed=0")


def test_cost_is_this_processs() -> None:
    before = sum(os.times()[:2]) * 1e6
    now = health(None, batches_waiting=0, packets_refused=0)
    assert before - 20_000 <= now.cpu_us  # os.times counts in ticks
    assert 5_000 < now.rss_kb < 4_000_000


def test_the_largest_machine_still_fits_a_message() -> None:
    counters = Counters(seen=(10**9,) * MAX_CPUS, lost=(99_999,) * MAX_CPUS, missed=0)
    assert len(encode(health(counters, batches_waiting=0, packets_refused=0))) < MAX_MESSAGE
