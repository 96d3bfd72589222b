"""Faults: no crash, no wrong number, the right error for each pair, and the cycle after is healthy again.

East and north meet directly (srflx), west only through the relay. Each fault comes while the probes of a test
are on their way, unless its test says otherwise: an observer in the middle sees them.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lab.check import plausible_loss
from lab.product import pathgrade

from agent.mesh.trust import Reason
from tests.lab.capture import UDP, Capture, Packet, capturing, is_probe
from tests.lab.fleet import PATIENCE_S, STREAMS, Fleet, Reading, fleet, until

pytestmark = pytest.mark.lab

NAME = f"f{os.getpid()}"
PAIR = ("east", "north")
BOTH = (PAIR, PAIR[::-1])
UPLINK = "east-uplink"
PROBES, INTERVAL_S = 150, 0.02
FLAP_S = 2.0
STEP_S = 3600
TESTS_WITH_LOSS = 8  # of a pair that fell to the relay over TCP, each third goes down the whole ladder
QUIET_S = 0.3  # between the last packet of a test and the first probe of the next


@pytest.fixture(scope="module")
def ends() -> Iterator[Fleet]:
    """East and north, tested every four seconds."""
    with fleet(NAME) as made:
        made.start("east", "north")
        made.assert_healthy_again(*BOTH)
        yield made


@pytest.fixture(autouse=True)
def nobody_crashes(ends: Fleet) -> Iterator[None]:
    before = ends.pids()
    yield
    ends.assert_nobody_crashed()
    assert ends.pids().keys() >= before.keys()


@contextmanager
def watched(ends: Fleet, node: str = "isp-east") -> Iterator[Capture]:
    with capturing(ends.lab.plan.namespace(node), "trunk") as capture:
        yield capture


def wait_for_probes(ends: Fleet, capture: Capture) -> int:
    """Until a test that begins from now on is in its probes; its reading is of a later cycle than this."""
    deadline = time.monotonic() + PATIENCE_S
    while (last := capture.last(is_probe)) is None or time.monotonic() - last < QUIET_S:
        assert time.monotonic() < deadline, "no test ends"
        time.sleep(0.02)
    capture.wait_for(is_probe, at_most_s=PATIENCE_S, count=40)
    return ends.cycle_now() - 1


def numbers(reading: dict[str, object]) -> list[object]:
    """What must be withheld where a test broke off."""
    names = ("rtt_min_us", "rtt_p50_us", "rtt_p99_us", "ipdv_us", "capacity_kbps")
    return [reading[name] for name in names]


def assert_withheld(reading: dict[str, object]) -> None:
    assert numbers(reading) == [None] * 5
    assert (reading["sent"], reading["received"]) == (0, 0)


def test_a_link_that_flaps_is_loss_and_nothing_else(ends: Fleet) -> None:
    with watched(ends) as capture:
        after = wait_for_probes(ends, capture)
        order_s = time.monotonic()
        ends.change(UPLINK, loss_ppm=1_000_000)
        down_s = time.monotonic()
        until(order_s + FLAP_S)
        end_s = time.monotonic()
        ends.change(UPLINK, loss_ppm=0)
        least_s, most_s = end_s - down_s, time.monotonic() - order_s  # a busy machine takes them apart
    for src, dst in BOTH:
        reading = ends.next_reading(src, dst, after=after, good=lambda found: found["sent"] == PROBES)
        assert reading["error"] == ""
        assert ends.faults_of(reading) == []
        lost = reading["sent"] - reading["received"]
        assert least_s / INTERVAL_S - 6 <= lost <= most_s / INTERVAL_S + 6, (lost, least_s, most_s)
        assert reading["rtt_n"] + reading["spoiled"] <= reading["received"]
    ends.assert_healthy_again(*BOTH)


def test_a_nat_that_forgets_and_maps_again_alike_costs_at_most_a_few_probes(ends: Fleet) -> None:
    with watched(ends) as capture:
        after = wait_for_probes(ends, capture)
        ends.inside("gw-east", "conntrack", "-F")
        for src, dst in BOTH:
            reading = ends.next_reading(src, dst, after=after)
            assert reading["error"] == ""
            assert ends.faults_of(reading) == []
            assert reading["sent"] - reading["received"] <= 5
    ends.assert_healthy_again(*BOTH)


def test_a_nat_that_maps_to_another_port_breaks_the_test_and_says_so(ends: Fleet) -> None:
    other_port = 'flush chain ip nat translation; add rule ip nat translation oifname "wan" masquerade {}'
    with watched(ends) as capture:
        after = wait_for_probes(ends, capture)
        ends.inside("gw-east", "nft", "-f", "-", stdin=other_port.format("random").replace("; ", "\n"))
        ends.inside("gw-east", "conntrack", "-F")
        time.sleep(1.0)
        ends.inside("gw-east", "nft", "-f", "-", stdin=other_port.format("").replace("; ", "\n"))
    for src, dst in BOTH:
        reading = ends.next_reading(src, dst, after=after)
        assert "the peer" in reading["error"]
        assert reading["rung"] == "srflx"
        assert_withheld(reading)
    ends.assert_healthy_again(*BOTH)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_a_server_that_is_started_again_loses_no_agent(ends: Fleet, number: signal.Signals) -> None:
    before = {name: pid for name, pid in ends.pids().items() if name in PAIR}
    with watched(ends) as capture:
        wait_for_probes(ends, capture)
        ends.end("server", number)
        ends.start_server()
    ends.assert_healthy_again(*BOTH)
    assert {name: pid for name, pid in ends.pids().items() if name in PAIR} == before


def test_a_clock_that_is_stepped_by_an_hour_spoils_round_trips_but_no_number(ends: Fleet) -> None:
    """Of one process (libfaketime): the machine's clock, and so its kernel's stamps, stay true."""
    ends.end("east")
    ends.start_agent("east", stepped=True)
    ends.wait(lambda: ends.online() == 2, "east is back")
    ends.assert_healthy_again(*BOTH)  # a clock that is shifted by nothing
    try:
        with watched(ends) as capture:
            after = wait_for_probes(ends, capture)
            ends.step_clock(STEP_S)
        for src, dst in BOTH:
            reading = ends.next_reading(src, dst, after=after)
            assert reading["error"] == ""
            assert ends.faults_of(reading) == []
            assert reading["sent"] == reading["received"] == PROBES  # loss is counted, not timed
            # East's own stamps are its kernel's; north sees that east's process and kernel disagree.
            assert src == "east" or reading["spoiled"] > 0
        # And it stays an hour off: the host is still measured, its orders are still followed.
        after = reading["cycle"]
        for src, dst in BOTH:
            reading = ends.next_reading(src, dst, after=after)
            assert (reading["error"], reading["rung"]) == ("", "srflx")
            assert ends.faults_of(reading) == []
            assert reading["sent"] == reading["received"] == PROBES
            off_s = reading["started_us"] / 1e6 - time.time()
            assert (off_s > STEP_S - 60) == (src == "east")
    finally:
        ends.step_clock(0)
    ends.assert_healthy_again(*BOTH)


def test_a_peer_that_is_killed_is_missed_by_name_and_comes_back(ends: Fleet) -> None:
    with watched(ends) as capture:
        broken = wait_for_probes(ends, capture) + 1
        ends.end("north", signal.SIGKILL)
        ends.wait(lambda: ends.online() == 1, "the server misses north")
    ends.wait(lambda: "north is gone" in ends.log("east"), "east is told")
    for pair in BOTH:
        reading = ends.reading(*pair)
        assert reading is not None
        # Either nothing was made of the broken test, or it says that it broke.
        assert reading["cycle"] < broken or (reading["error"] and numbers(reading) == [None] * 5)
    ends.start_agent("north")
    ends.wait(lambda: ends.online() == 2, "north is back")
    ends.assert_healthy_again(*BOTH)


def test_thirty_percent_loss_each_way_is_measured(ends: Fleet) -> None:
    """Such a loss may cost a test its way: then it says so. A relay over TCP hides it from all above it."""
    ends.change(UPLINK, loss_ppm=300_000)
    try:
        after = ends.cycle_now()  # a test that runs already may have some of its probes behind it
        for _ in range(TESTS_WITH_LOSS):
            both = [ends.next_reading(*pair, after=after) for pair in BOTH]
            after = both[0]["cycle"]
            for one in both:
                assert_right_with_loss(ends, one, 0.3)
            if all(one["sent"] and one["rung"] not in STREAMS for one in both):
                break
        else:
            pytest.fail(f"no test got through over UDP in {TESTS_WITH_LOSS} cycles")
    finally:
        ends.change(UPLINK, loss_ppm=0)
    ends.assert_healthy_again(*BOTH)


def assert_right_with_loss(ends: Fleet, one: Reading, rate: float) -> None:
    """A reading has the loss there is, or says why it has none."""
    assert ends.faults_of(one) == []
    if one["rung"] in STREAMS:
        assert "relay-udp: " in one["rungs_failed"]
    elif one["sent"]:
        lost = one["sent"] - one["received"]
        assert plausible_loss(lost, one["sent"], rate), f"{lost} of {one['sent']} lost"
    else:
        assert one["error"] or one["rungs_failed"]
        assert_withheld(one)


# --- lies: east and north have met -------------------------------------------------------------------------


@contextmanager
def lying(ends: Fleet, kind: str) -> Iterator[None]:
    ends.lies.write_text(kind)
    try:
        yield
    finally:
        ends.lies.unlink()


def udp_of_agents(ends: Fleet, capture: Capture) -> list[Packet]:
    return [packet for packet in capture.packets if packet.protocol == UDP]


LIES = {
    "swap": "the identity key of {peer} changed: if it was reinstalled, `pathgrade agent peers",
    "others": "the server's grant is for another test",
    "unsigned": "the grant for this test is not by the server enrolled at",
    "greedy": "bytes, and its grant for",
}


COUNTED = (Reason.CHANGED, Reason.OTHERS, Reason.FORGED, Reason.EXCEEDED)
"""What an agent's health, every half a minute, counts those under."""


def assert_refused(ends: Fleet, said: str, after: int) -> None:
    for src, dst in BOTH:
        expected = said.format(peer=dst)
        reading = ends.next_reading(src, dst, after=after, good=lambda one, it=expected: it in one["error"])
        assert reading["rung"] == "none"
        assert_withheld(reading)


def test_a_lying_server_gets_no_probe_and_each_pair_the_reason(ends: Fleet) -> None:
    after = ends.cycle(*PAIR)
    with lying(ends, "swap"):
        assert_refused(ends, LIES["swap"], after)  # an honest test that ran already is over
        with watched(ends) as capture:
            for kind, said in LIES.items():
                ends.lies.write_text(kind)
                assert_refused(ends, said, ends.cycle_now() - 1)
        assert udp_of_agents(ends, capture) == []
    for name in PAIR:
        ends.wait(
            lambda name=name: all(f"{why}:" in ends.log(name) for why in COUNTED), f"{name} counts each kind"
        )
    ends.assert_healthy_again(*BOTH)


def test_an_old_grant_is_not_good_again(ends: Fleet) -> None:
    ends.next_reading(*PAIR, after=ends.cycle(*PAIR))
    with lying(ends, "stale"):
        for name in PAIR:
            ends.wait(
                lambda name=name: any(
                    word in ends.log(name)
                    for word in (
                        "grant for this test expired",
                        "of before this connection",
                        "was used before",
                    )
                ),
                f"{name} refuses",
            )
        with watched(ends) as capture:
            cycles = {ends.cycle_now()}
            ends.wait(lambda: cycles.add(ends.cycle_now()) or len(cycles) > 2, "two cycles more")
        assert udp_of_agents(ends, capture) == []
    ends.assert_healthy_again(*BOTH)


def test_a_peer_that_was_reinstalled_is_taken_once_it_is_forgotten(ends: Fleet) -> None:
    peers = ends.data("east") / "peers.json"
    pinned = peers.read_text()
    east, north = (ends.inside("core", pathgrade(), "agent", "identity", "--data", str(ends.data(name)))
                   for name in PAIR)  # fmt: skip
    key = north.split('"')[1]
    peers.write_text(pinned.replace(key, east.split('"')[1]))
    after = ends.cycle(*PAIR)
    reading = ends.next_reading(*PAIR, after=after, good=lambda found: bool(found["error"]))
    assert "identity key of north changed" in reading["error"]
    ends.inside("core", pathgrade(), "agent", "peers", "--data", str(ends.data("east")), "forget", "north")
    ends.assert_healthy_again(*BOTH)
    assert key in peers.read_text()


# --- the relay: west joins ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_west(ends: Fleet) -> Fleet:
    """West in place of north."""
    ends.end("north")
    ends.add("west")
    ends.wait(lambda: ends.online() == 2, "west is online")
    ends.next_reading("east", "west", after=0, good=ends.is_healthy)
    return ends


def relayed(packet: Packet) -> bool:
    """TURN ChannelData (RFC 8656 section 12.4) with a DTLS record in it."""
    head = packet.payload[:5]
    return packet.protocol == UDP and len(head) == 5 and head[0] in range(0x40, 0x50) and head[4] == 0x17


def test_a_relay_that_dies_breaks_its_test_then_is_missed_by_name(with_west: Fleet) -> None:
    ends, pairs = with_west, (("east", "west"), ("west", "east"))
    with watched(ends, "isp-west") as capture:
        capture.wait_for(relayed, at_most_s=PATIENCE_S, count=40)
        after = ends.cycle_now() - 1
        ends.end("coturn", signal.SIGKILL)
    for src, dst in pairs:
        reading = ends.next_reading(src, dst, after=after)
        assert reading["rung"] == "relay-udp"
        assert "the peer" in reading["error"]
        assert_withheld(reading)
    after = reading["cycle"]
    for src, dst in pairs:  # from now on it is dead before the test
        reading = ends.next_reading(src, dst, after=after)
        assert (reading["rung"], reading["error"]) == ("none", "")
        assert "relay-udp: " in reading["rungs_failed"]
        assert "TURN" in reading["rungs_failed"]
        assert_withheld(reading)
    ends.start_turn_again()
    ends.assert_healthy_again(*pairs)
