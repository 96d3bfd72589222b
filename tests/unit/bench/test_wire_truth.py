import socket

import pytest
from benches.wire_truth import ICMP, UDP, Seen, ways

A, B = "198.18.0.1", "198.18.2.2"
OUT, IN = True, False


def packet(
    src: str, dst: str, data: bytes, *, protocol: int = UDP, checksum: int = 0, ttl: int = 64
) -> bytes:
    header = bytes([0x45, *bytes(7), ttl, protocol, 0, 0]) + socket.inet_aton(src) + socket.inet_aton(dst)
    udp = (1000).to_bytes(2, "big") + (2000).to_bytes(2, "big") + bytes(2) + checksum.to_bytes(2, "big")
    return header + (udp if protocol == UDP else b"") + data


def test_a_packet_takes_as_long_as_between_the_edges():
    near = [Seen(100, IN, packet(A, B, b"ask")), Seen(900, OUT, packet(B, A, b"answer"))]
    far = [Seen(350, OUT, packet(A, B, b"ask")), Seen(500, IN, packet(B, A, b"answer"))]
    passed = ways(near, far)
    assert [(one.entered_ns, one.took_ns, one.data) for one in passed.up] == [(100, 250, b"ask")]
    assert [(one.entered_ns, one.took_ns, one.data) for one in passed.down] == [(500, 400, b"answer")]


def test_a_router_may_change_ttl_and_fill_in_the_checksum():
    near = [Seen(0, IN, packet(A, B, b"x", checksum=0x1234, ttl=64))]
    far = [Seen(7, OUT, packet(A, B, b"x", checksum=0xABCD, ttl=62))]
    assert ways(near, far).up[0].took_ns == 7


def test_what_was_lost_did_not_pass():
    near = [Seen(0, IN, packet(A, B, b"1")), Seen(1, IN, packet(A, B, b"2"))]
    far = [Seen(9, OUT, packet(A, B, b"2"))]
    assert [one.data for one in ways(near, far).up] == [b"2"]


def test_packets_that_are_alike_pass_in_order():
    near = [Seen(0, IN, packet(A, B, b"x")), Seen(10, IN, packet(A, B, b"x"))]
    far = [Seen(5, OUT, packet(A, B, b"x")), Seen(17, OUT, packet(A, B, b"x"))]
    assert [one.took_ns for one in ways(near, far).up] == [5, 7]


def test_the_order_is_that_of_entering():
    near = [Seen(10, IN, packet(A, B, b"late")), Seen(0, IN, packet(A, B, b"early"))]
    far = [Seen(11, OUT, packet(A, B, b"late")), Seen(12, OUT, packet(A, B, b"early"))]
    assert [one.data for one in ways(near, far).up] == [b"early", b"late"]


@pytest.mark.parametrize("protocol", [UDP, ICMP])
def test_what_a_packet_carries_begins_behind_the_header_of_udp(protocol):
    near = [Seen(0, IN, packet(A, B, b"data", protocol=protocol))]
    far = [Seen(1, OUT, packet(A, B, b"data", protocol=protocol))]
    passed = ways(near, far).up[0]
    assert (passed.protocol, passed.data) == (protocol, b"data")
