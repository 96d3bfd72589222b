"""Messages of the mesh inside DTLS: probes and control (agent/mesh/packet.py). Read, written, the same."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from shaped import chosen, either

from agent.mesh import packet
from agent.mesh.packet import Control, PacketError, Probe

ALLOWED = (PacketError,)


def target(data: bytes) -> object:
    return either(data, _message, _control, _probe)


def _message(data: bytes) -> None:
    found = packet.decode_message(data)
    if isinstance(found, Control):
        assert packet.decode_message(packet.encode_control(found)) == found
    else:
        assert packet.decode_message(found.encode()) == found


def _control(body: bytes) -> None:
    """Behind a right head."""
    _message(struct.pack("!BBH", packet.VERSION, packet.Kind.CONTROL, 4 + len(body)) + body)


def _probe(body: bytes) -> None:
    kind = packet.Kind.REPLY if len(body) % 2 else packet.Kind.REQUEST
    head = struct.pack("!BBH", packet.VERSION, kind, packet.PROBE_BYTES)
    _message(head + body[: packet.PROBE_BYTES - 4].ljust(packet.PROBE_BYTES - 4, b"\1"))


def seeds() -> Iterator[bytes]:
    yield chosen(0, Probe(packet.Kind.REQUEST, 1, 1_764_000_000_000_000_000).encode())
    yield chosen(2, bytes(range(1, 40)))
    for body in (
        packet.Start(b"12345678"),
        packet.Started(),
        packet.Finished(300, [1, 2]),
        packet.Counters(300, 0, 1, earlier=[(1, 2)], bursts=1, runs=[(3, 4)], clock_error_us=5, hop_class=10),
        packet.TrainComing(1, 80, 1200),
        packet.TrainReady(b"12345678"),
        packet.TrainResult(True, 80, 1_000_000, why="x"),
        packet.YourTurn(),
        packet.Done(),
        packet.Over(),
        packet.ReceiptPart(0, 2, b"x" * 40),
        packet.Witnessed(settled=True, signature=bytes(64)),
        packet.Witnessed(settled=True, why="counts"),
    ):
        yield chosen(1, packet.encode_control(Control(1, body))[4:])
