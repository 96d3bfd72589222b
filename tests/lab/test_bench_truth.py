"""The truth of ``scripts/bench accuracy`` is itself true: delays, rates and losses as they were set."""

from __future__ import annotations

from pathlib import Path

import pytest
from benches.accuracy_measures import round_trips
from benches.chain import LEFT, Cable, chain, shape
from benches.net import NETNS, inside, run
from benches.peers import PEERS, Pace, met

pytestmark = [pytest.mark.lab, pytest.mark.alone]


def test_what_the_network_took_is_what_the_cables_were_set_to(tmp_path: Path) -> None:
    cables = [Cable({"up.delay_us": 3_000, "down.delay_us": 1_000}), Cable({"down.delay_us": 2_000}, 2)]
    with chain(tmp_path, cables) as made:
        found = met(PEERS["ping"], made, Pace(30, 10_000))
    assert found.used_share == 1
    true_us = sorted(one.true_ns / 1_000 for one in found.compared)
    assert true_us[0] > 5_900  # the emulator makes up for what it learnt to be late
    assert true_us[len(true_us) // 2] < 6_500
    # What ping adds is its host's: never less than nothing, but for its rounding.
    assert all(one.told_ns > one.true_ns - 10_000 for one in found.compared)


def test_every_round_trip_of_a_pair_test_is_found_on_the_network(tmp_path: Path) -> None:
    for end in ("a", "b"):
        (tmp_path / end).mkdir()
    with chain(tmp_path, [Cable({"up.delay_us": 300, "down.delay_us": 200, "up.jitter_us": 100})]) as made:
        ends = round_trips(made, Pace(100, 10_000))
    for found in ends:
        assert found.used_share > 0.9  # a busy machine may cost a stamp
        assert 400 < found.true_p50 < 1_000
        assert found.error_p50 < 50


def test_a_cable_loses_in_the_direction_that_was_set_and_counts_it(tmp_path: Path) -> None:
    with chain(tmp_path, [Cable({"up.loss_ppm": 200_000})]) as made:
        run(inside(made.a, ["ping", "-q", "-i", "0.002", "-c", "300", "-W", "1", made.b_address]))
        state = made.state()
    assert 20 < state.up.lost < 110
    assert state.down.lost == 0
    assert state.down.packets >= 300 - state.up.lost


def test_a_shaped_router_counts_ip_packets(tmp_path: Path) -> None:
    with chain(tmp_path) as made:
        shape(made, 1_000)
        before = made.sent_bytes(made.near, LEFT)
        run(inside(made.a, ["ping", "-q", "-i", "0.01", "-c", "10", "-s", "1000", made.b_address]))
        told = run(["tc", "-n", made.near, "-s", "qdisc", "show", "dev", LEFT])
        sent = made.sent_bytes(made.near, LEFT) - before
    assert sent >= 10 * 1_042
    # Ten replies of 1,028 bytes and perhaps an ARP answer; Ethernet's headers would be 140 more.
    assert 10_280 <= int(told.partition("Sent ")[2].split()[0]) <= 10_280 + 2 * 28


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with chain(tmp_path, [Cable({})]) as made:
        nodes = made.nodes
        assert all((NETNS / node).exists() for node in nodes)
    assert not any((NETNS / node).exists() for node in nodes)
