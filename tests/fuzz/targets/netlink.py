"""The kernel's list of TCP sockets: netlink dumps, and the record that is made of each socket."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from shaped import Taken, chosen, either

from agent.passive.inetdiag import sockets
from agent.passive.polled import Polled, record
from ebpf.events import RUN, decode_run

ALLOWED = (OSError,)


def target(data: bytes) -> object:
    return either(data, _datagrams, _messages)


def _datagrams(data: bytes) -> None:
    """The same bytes answer both questions, whole or in pieces."""
    pieces = [data[at : at + 512] for at in range(0, len(data), 512)]
    _polled(lambda _question: iter(pieces))


def _messages(data: bytes) -> None:
    """Headers and lengths are right; bodies are the fuzzer's, each dump ends as it must."""

    def dump(question: bytes) -> Iterable[bytes]:
        taken = Taken(data)
        (number,) = struct.unpack_from("=I", question, 8)
        for _ in range(taken.number(1, 4)):
            yield _message(20, number, taken.some())
        yield _message(3, number, bytes(4))

    _polled(dump)


def _message(kind: int, number: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 2, number, 0) + body + bytes(-len(body) % 4)


def _polled(dump) -> None:
    polled = Polled()
    found = sockets(dump)
    polled.take(found, 1)
    for one in polled:
        event = record(one, netns=1)
        if all(value < 2**16 for value in one.socket.ports):
            assert ip_address(event.local_address)
        # It is packed to the record that the eBPF programs write.
        assert len(decode_run(RUN.pack(*event))) == 1


def socket_body() -> bytes:
    head = (
        struct.pack("=BBBB", 2, 1, 0, 0) + struct.pack("!HH", 40_000, 104) + bytes([192, 0, 2, 1]) + bytes(12)
    )
    head += (
        bytes([192, 0, 2, 2])
        + bytes(12)
        + struct.pack("=IQ", 0, 77)
        + struct.pack("=IIIII", 0, 0, 0, 1000, 4242)
    )
    info = struct.pack("=HH", 4 + 232, 2) + bytes(range(232))
    return head + info + struct.pack("=HH", 10, 4) + b"cubic\0" + bytes(2)


def seeds() -> Iterator[bytes]:
    body = socket_body()
    yield chosen(0, _message(20, 1, body) + _message(3, 1, bytes(4)))
    yield chosen(0, _message(2, 1, struct.pack("=i", -2)))
    yield chosen(1, b"\0" + bytes([len(body[:255])]) + body[:255])
    yield chosen(1, b"\0\x48" + body[:72])
