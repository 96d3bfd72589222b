"""Datagrams of the mesh outside DTLS: hop probes, their replies, trains, and what ICMP quotes of them."""

from __future__ import annotations

from collections.abc import Iterator

from shaped import Taken, chosen, either

from agent.mesh.packet import RAW_BYTES, VERSION, PacketError, Raw, RawKind, decode_raw, quoted_raw

ALLOWED = (PacketError,)


def target(data: bytes) -> object:
    return either(data, _decoded, _headed, quoted_raw)


def _decoded(data: bytes) -> None:
    found = decode_raw(data)
    assert found.length == len(data)
    again = decode_raw(found.encode())
    assert again == found
    if found.kind is RawKind.HOP_PROBE:
        assert quoted_raw(data) == (found.token, found.sequence)


def _headed(data: bytes) -> None:
    taken = Taken(data)
    kind, body = taken.one_of(list(RawKind)), taken.rest()
    length = max(RAW_BYTES, 4 + len(body))
    _decoded(bytes([kind, VERSION]) + length.to_bytes(2, "big") + body.ljust(length - 4, b"\0"))


def seeds() -> Iterator[bytes]:
    for kind in RawKind:
        yield chosen(0, Raw(kind, b"12345678", 3, 4, 5).encode())
    yield chosen(0, Raw(RawKind.TRAIN, b"12345678", 3, length=60).encode())
    yield chosen(1, b"\1" + b"12345678" + bytes(20))
    yield chosen(2, Raw(RawKind.HOP_PROBE, b"12345678", 3).encode()[:16])
