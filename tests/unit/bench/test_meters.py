"""Packets and prints are those of iputils 20221126, irtt 0.9.0 and sockperf 3.7."""

import json

import msgspec
import pytest
from benches import meters
from benches.errors import PartError
from benches.meters import Met, OneWay
from benches.told import EndTold, Trip
from benches.wire_truth import ICMP, UDP, Passed, Ways

from analytics.measurement import Reading, Rung, StampSource

PING = """\
PING 198.18.2.2 (198.18.2.2) 56(84) bytes of data.
64 bytes from 198.18.2.2: icmp_seq=1 ttl=62 time=0.502 ms
64 bytes from 198.18.2.2: icmp_seq=3 ttl=62 time=1.51 ms

--- 198.18.2.2 ping statistics ---
3 packets transmitted, 2 received, 33.3333% packet loss, time 64ms
"""
SOCKPERF = """\
sockperf: Summary: Round trip is 188.818 usec
------------------------------
packet, txTime(sec), rxTime(sec), rtt(usec)
0, 2.400000000, 2.400119306, 119.306
1, 2.411000000, 2.411082762, 82.762
2, 2.420000000, 2.421467985, 1467.985
------------------------------
"""


def icmp(kind: int, sequence: int) -> bytes:
    return bytes([kind, 0, 0, 0, 0x5D, 0x6B]) + sequence.to_bytes(2, "big") + b"rest"


def irtt(flags: int, sequence: int) -> bytes:
    return bytes.fromhex("14a75b") + bytes([flags]) + b"connects" + sequence.to_bytes(4, "little") + bytes(40)


def sockperf(kind: int, sequence: int) -> bytes:
    return sequence.to_bytes(8, "big") + kind.to_bytes(2, "big") + (14).to_bytes(4, "big")


def told(met: Met) -> list[tuple[int, int]]:
    return [(one.told_ns, one.true_ns) for one in met.compared]


def test_pings_are_told_by_their_number_and_what_it_rounds_is_its_error():
    ups = [Passed(n, 200_000, ICMP, icmp(8, n)) for n in (1, 2, 3)]
    downs = [Passed(n, 250_000, ICMP, icmp(0, n)) for n in (1, 3)]
    met = meters.ping(PING, Ways(ups, downs))
    assert told(met) == [(502_000, 450_000), (1_510_000, 450_000)]
    assert [one.error_ns for one in met.compared] == [52_000, 1_060_000]


def test_irtt_is_told_by_its_number_and_other_packets_of_it_are_none():
    trips = [
        {"seqno": 0, "lost": "false", "delay": {"rtt": 700_000}},
        {"seqno": 1, "lost": "true_up", "delay": {}},
    ]
    ups = [Passed(0, 1, UDP, irtt(1, 0)), Passed(1, 300_000, UDP, irtt(0, 0)), Passed(2, 5, UDP, irtt(0, 1))]
    downs = [Passed(3, 1, UDP, irtt(3, 0)), Passed(4, 200_000, UDP, irtt(2, 0))]
    assert told(meters.irtt(json.dumps({"round_trips": trips}), Ways(ups, downs))) == [(700_000, 500_000)]


def test_irtt_counts_the_answers_lost_among_those_that_the_server_could_answer():
    stats = {"packets_sent": 100, "server_packets_received": 90, "packets_received": 87}
    assert meters.irtt_losses(json.dumps({"stats": stats})) == (OneWay(100, 10), OneWay(90, 3))


def test_the_warm_up_of_sockperf_is_found_by_when_it_sent():
    entered = [0, 10_300_000, 20_000_000, 31_000_000, 40_000_000, 50_700_000]
    ups = [Passed(at, 100_000, UDP, sockperf(3, n)) for n, at in enumerate(entered, 1)]
    downs = [Passed(at, 50_000, UDP, sockperf(2, n)) for n, at in enumerate(entered, 1)]
    # Sent at 0, 11, 20 ms: numbers 3, 4, 5, which entered at 20, 31, 40 ms.
    downs[3] = downs[3]._replace(took_ns=60_000)
    met = meters.sockperf(SOCKPERF, Ways(ups, downs))
    assert told(met) == [(119_306, 150_000), (82_762, 160_000), (1_467_985, 150_000)]
    assert met.used_share == 0.5


def test_a_sockperf_that_is_not_on_the_network_is_an_error():
    with pytest.raises(PartError, match="sockperf"):
        meters.sockperf(SOCKPERF, Ways([], []))


# --- pathgrade ----------------------------------------------------------------------------------------------


def end(trips: list[Trip], *, n: int, stamps: StampSource = StampSource.KERNEL) -> EndTold:
    reading = Reading(
        tenant="t", cycle=1, test="t", src="a", dst="b", started_us=0, ended_us=1, rung=Rung.LAN,
        sent=len(trips), rtt_n=n, stamps=stamps,
    )  # fmt: skip
    return EndTold(reading=reading, hops=[], trips=trips)


def trip(t1_ns: int, t3_ns: int, rtt_ns: int | None = 500, **other: bool) -> Trip:
    return Trip(t1_ns=t1_ns, t3_ns=t3_ns, rtt_ns=rtt_ns, **{"kernel": True, "spoiled": False} | other)


def record(at: int, took: int, size: int = 89) -> Passed:
    return Passed(at, took, UDP, bytes([23]) + bytes(size - 1))


# a asks at 10 and 30, b answers at 20 and 45; b asks at 12, a answers at 25.
OWN = end([trip(10, 20), trip(30, 45)], n=2)
PEER = end([trip(12, 25)], n=1)
OUT = [record(1, 100), record(2, 200), record(3, 300)]  # request 1, the answer, request 2
BACK = [record(1, 7), record(2, 20), record(3, 30)]  # b's own request, reply 1, reply 2


def test_records_are_taken_in_the_order_in_which_the_ends_sent_them():
    met = meters.pathgrade(OWN, PEER, OUT, BACK)
    assert told(met) == [(500, 120), (500, 330)]
    assert met.used_share == 1


def test_the_other_end_has_round_trips_of_its_own():
    assert told(meters.pathgrade(PEER, OWN, BACK, OUT)) == [(500, 207)]


def test_records_of_another_size_are_no_probes():
    out = [record(0, 1, 57), *OUT, record(9, 1, 122), Passed(9, 1, UDP, b"\xc1" + bytes(88))]
    assert told(meters.pathgrade(OWN, PEER, out, BACK)) == [(500, 120), (500, 330)]


@pytest.mark.parametrize(
    "left_out", [trip(30, 45, kernel=False), trip(30, 45, spoiled=True), trip(30, 45, -1)]
)
def test_only_what_the_reading_is_made_of_is_compared(left_out):
    own = end([trip(10, 20), left_out], n=1)
    met = meters.pathgrade(own, PEER, OUT, BACK)
    assert told(met) == [(500, 120)]
    assert met.used_share == 0.5


def test_a_reading_without_the_kernels_stamps_is_made_of_all_that_is_not_spoiled():
    own = end([trip(10, 20, kernel=False), trip(30, 45)], n=2, stamps=StampSource.USER)
    assert len(meters.pathgrade(own, PEER, OUT, BACK).compared) == 2


def test_a_reading_that_is_made_of_others_is_an_error():
    own = msgspec.structs.replace(OWN, reading=msgspec.structs.replace(OWN.reading, rtt_n=1))
    with pytest.raises(PartError, match="made of 1 round trips, not of these 2"):
        meters.pathgrade(own, PEER, OUT, BACK)


def test_a_probe_that_did_not_pass_is_an_error():
    with pytest.raises(PartError, match="sent 3 probes, 2 passed"):
        meters.pathgrade(OWN, PEER, OUT[:2], BACK)
