"""What routers quote: packets as RFC 4884, RFC 4950 and RFC 792 lay them out, and what is refused."""

from __future__ import annotations

import socket
import struct

import pytest

from agent.mesh.icmp import (
    CLASSIC_QUOTE,
    ExtensionError,
    Label,
    QuotedDatagram,
    labels_of,
    mpls_labels,
    ones_complement,
    quoted_datagram,
    quoted_datagram6,
)

# Two labels as a provider's core has them: 16004, TC 5, TTL 1, then 24005, bottom of stack, TTL 2.
STACK = bytes.fromhex("03e84a01 05dc5102")
HEADERS = 28


def extension(*objects: bytes, checksum: bool = True) -> bytes:
    bare = b"\x20\0\0\0" + b"".join(objects)
    return bare[:2] + struct.pack("!H", ones_complement(bare) ^ 0xFFFF) + bare[4:] if checksum else bare


def obj(payload: bytes, kind: int = 1, subtype: int = 1) -> bytes:
    return struct.pack("!HBB", 4 + len(payload), kind, subtype) + payload


def test_a_label_stack_as_rfc_4950_draws_it() -> None:
    labels = mpls_labels(extension(obj(STACK)))
    assert labels == (Label(16004, 5, False, 1), Label(24005, 0, True, 2))
    assert " ".join(map(str, labels)) == "16004/5/0/1 24005/0/1/2"


def test_other_objects_are_passed_over_and_no_checksum_is_one() -> None:
    interface = obj(bytes(8), kind=2, subtype=0x0A)  # RFC 5837
    assert len(mpls_labels(extension(interface, obj(STACK), checksum=False))) == 2
    assert mpls_labels(extension(interface)) == ()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "an extension of 0 bytes"),
        (b"\x20\0\0", "an extension of 3 bytes"),
        (b"\x10\0\0\0", "version 1"),
        (extension(obj(STACK))[:-1] + b"\x07", "the checksum does not fit"),
        (extension(b"\0\x04\1", checksum=False), "3 bytes where an object begins"),
        (extension(b"\0\x02\1\1", checksum=False), "an object of 2 bytes"),
        (extension(b"\0\x0c\1\1" + STACK[:4], checksum=False), "an object of 12 bytes"),
        (extension(obj(STACK[:4])), "last label is not marked"),
        (extension(obj(STACK[4:] * 2)), "last label is not marked"),
        (extension(obj(b"")), "a stack of 0 labels"),
        (extension(obj(STACK[:4] * 16 + STACK[4:])), "a stack of 17 labels"),
        (extension(obj(STACK), obj(STACK)), "two label stacks"),
        (bytes(577), "an extension of 577 bytes"),
    ],
)
def test_what_does_not_hold_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ExtensionError, match=why):
        mpls_labels(data)


def test_an_old_router_does_not_say_where_and_must_have_the_checksum_right() -> None:
    quote = b"probe".ljust(CLASSIC_QUOTE - HEADERS, b"\0")
    assert len(labels_of(quote + extension(obj(STACK)), None, headers=HEADERS)) == 2
    assert labels_of(quote + extension(obj(STACK), checksum=False), None, headers=HEADERS) == ()
    assert labels_of(quote + b"just more of the datagram", None, headers=HEADERS) == ()
    assert labels_of(b"probe", None, headers=HEADERS) == ()


def v4(traffic_class: int, *, protocol: int = 17, fragment: int = 0) -> bytes:
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, traffic_class, 60, 1, fragment, 1, protocol, 0,
        socket.inet_aton("192.168.1.10"), socket.inet_aton("203.0.113.6"),
    )  # fmt: skip
    return b"\x0b\0\0\0\0\0\0\0" + header + struct.pack("!HHHH", 4000, 4001, 40, 0) + b"payload"


def test_the_header_of_a_quoted_datagram() -> None:
    assert quoted_datagram("203.0.113.1", v4(0x2A)) == QuotedDatagram(
        "203.0.113.1", 0x2A, "203.0.113.6", 4001, b"payload"
    )


def test_the_header_of_a_quoted_ipv6_datagram() -> None:
    end = socket.inet_pton(socket.AF_INET6, "2001:db8::6")
    header = struct.pack("!IHBB", 6 << 28 | 0x2A << 20, 15, 17, 1) + bytes(16) + end
    message = b"\x03\0\0\0\0\0\0\0" + header + struct.pack("!HHHH", 4000, 4001, 15, 0) + b"payload"
    seen = quoted_datagram6("2001:db8::1", message)
    assert (seen.traffic_class, seen.destination, seen.destination_port) == (0x2A, "2001:db8::6", 4001)
    for wrong in (message[:50], b"\x01" + message[1:], message[:14] + b"\x06" + message[15:]):
        with pytest.raises(ExtensionError):
            quoted_datagram6("2001:db8::1", wrong)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        v4(0)[:35],
        b"\x03" + v4(0)[1:],
        v4(0, protocol=6),
        v4(0, fragment=5),
        v4(0)[:8] + b"\x4f" + v4(0)[9:],
    ],
)
def test_anything_else_is_not_taken_for_one(message: bytes) -> None:
    with pytest.raises(ExtensionError):
        quoted_datagram("203.0.113.1", message)
