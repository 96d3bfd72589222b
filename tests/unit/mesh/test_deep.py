"""The deep trace without a network: what is sent when, and what each answer says."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP

from agent.mesh.deep import Deep
from agent.mesh.treatment import DSCP, DeepOrder, DeepTrace, Protocol

END, ROUTER, ME = "192.0.2.10", "10.0.0.1", "10.0.0.9"
PORTS: dict[Protocol, int] = {"tcp": 40001, "icmp": 40002, "udp": 40003}
MS = 1_000_000


def deep(*protocols: Protocol, max_ttl: int = 4, rounds: int = 2) -> Deep:
    order = DeepOrder(address=END, port=443, protocols=list(protocols), max_ttl=max_ttl, rounds=rounds)
    return Deep(order, PORTS)


def sent(of: Deep, protocol: Protocol, ttl: int) -> bytes:
    packet = of.probe(protocol, ttl, now_ns=0)
    assert packet is not None
    return packet


def error(quoted: bytes, kind: int = 11, code: int = 0, router: str = ROUTER) -> bytes:
    """An ICMP error as a router that quotes 28 bytes makes it."""
    return bytes(IP(src=router, dst=ME) / ICMP(type=kind, code=code) / quoted[:28])


def only(of: Deep) -> DeepTrace:
    (trace,) = of.traces()
    return trace


def test_no_ttl_is_asked_twice_within_a_second_by_whatever_protocol() -> None:
    plan = list(deep("tcp", "icmp", "udp", max_ttl=30, rounds=3).plan())
    assert [at for at, *_ in plan] == sorted(at for at, *_ in plan)
    assert len(plan) == 3 * 3 * 30
    for ttl in range(1, 31):
        moments = [at for at, _, of in plan if of == ttl]
        assert min(after - before for before, after in pairwise(moments)) >= 1.0


@pytest.mark.parametrize("protocol", list(PORTS))
def test_eight_quoted_bytes_are_enough_to_tell_the_probe(protocol: Protocol) -> None:
    trace = deep(protocol)
    sent(trace, protocol, 1)
    second = sent(trace, protocol, 2)
    trace.take(error(second), 3 * MS)
    trace.take(error(second), 5 * MS)  # a copy
    silent, hop = only(trace).hops
    assert (silent.sent, silent.address) == (1, "")
    assert (hop.address, hop.answered, hop.rtt_min_us, hop.answer) == (ROUTER, 1, 3000, "")
    assert (silent.dscp, hop.dscp) == (None, DSCP)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        bytes(IP(src=END, dst=ME) / ICMP(type=8)),  # a flood of echo requests
        bytes(IP(src=END, dst=ME, proto=47) / bytes(40)),
        bytes(IP(src=END, dst=ME) / TCP())[:20],
        b"\x60" + bytes(60),
        b"\x41" + bytes(60),
    ],
    ids=["nothing", "echo request", "GRE", "header alone", "IPv6", "short header"],
)
def test_what_cannot_answer_is_passed_over_without_being_taken_apart(
    packet: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.mesh.deep.IP", None)
    trace = deep("icmp")
    trace.take(packet, MS)
    assert only(trace).hops == []


def test_what_the_end_says_ends_the_way() -> None:
    flags: dict[str, str] = {"SA": "open", "RA": "closed"}
    for given_, word in flags.items():
        trace = deep("tcp")
        seq = IP(sent(trace, "tcp", 3))[TCP].seq
        trace.take(bytes(IP(src=END, dst=ME) / TCP(sport=443, dport=40001, flags=given_, ack=seq + 1)), MS)
        assert [hop.is_end for hop in only(trace).hops] == [False, False, True]
        assert only(trace).hops[-1].answer == word
        assert trace.probe("tcp", 4, 0) is None
        assert trace.probe("tcp", 3, 0) is not None


def test_echo_port_unreachable_and_a_udp_answer_are_ends_too() -> None:
    trace = deep("icmp")
    seq = IP(sent(trace, "icmp", 1))[ICMP].seq
    trace.take(bytes(IP(src=END, dst=ME) / ICMP(type=0, id=40002, seq=seq)), MS)
    assert only(trace).hops[0].answer == "echo"
    trace = deep("udp")
    trace.take(error(sent(trace, "udp", 1), 3, 3, END), MS)
    assert (only(trace).hops[0].answer, only(trace).reached) == ("port closed", True)
    trace = deep("udp")
    sent(trace, "udp", 1)
    trace.take(bytes(IP(src=END, dst=ME) / UDP(sport=443, dport=40003)), MS)
    assert (only(trace).hops[0].answer, only(trace).reached) == ("open", True)


def test_who_refuses_on_the_way_is_named_and_is_not_the_end() -> None:
    trace = deep("udp")
    trace.take(error(sent(trace, "udp", 2), 3, 13), MS)
    assert (only(trace).hops[1].answer, only(trace).reached) == ("filtered", False)
    assert trace.probe("udp", 3, 0) is None


def test_strangers_do_not_count() -> None:
    trace = deep("tcp", "udp")
    packet = sent(trace, "tcp", 1)
    others = [
        error(bytes(IP(dst="198.51.100.1") / TCP(sport=40001, seq=1))),  # to someone else
        error(bytes(IP(dst=END) / TCP(sport=999, seq=1))),  # another program's port
        error(bytes(IP(dst=END, id=1) / UDP(sport=40003))),  # number 1 was TCP
        bytes(IP(src="198.51.100.1", dst=ME) / TCP(dport=40001, flags="SA", ack=2)),
        bytes(IP(src=END, dst=ME) / TCP(dport=40001, flags="A", ack=2)),
        bytes(IP(src=END, dst=ME) / ICMP(type=0, id=1, seq=1)),
        bytes(IP(src=ROUTER, dst=ME) / ICMP(type=5) / packet[:28]),
    ]
    for other in others:
        trace.take(other, MS)
    trace.take(error(packet), -1)  # a clock that was set back
    assert [each.hops for each in trace.traces()] == [[], []]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 56), st.binary(max_size=200))
def test_whatever_bytes_come_the_numbers_stay_sane(cut: int, rest: bytes) -> None:
    trace = deep("tcp", "icmp", "udp")
    packets = [sent(trace, protocol, 1) for protocol in PORTS]
    for packet in packets:
        with contextlib.suppress(Exception):  # as the reader does, which counts it
            trace.take(error(packet)[:cut] + rest, MS)
    assert all(hop.answered <= hop.sent for each in trace.traces() for hop in each.hops)
