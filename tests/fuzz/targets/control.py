"""Control messages over the WebSocket, both ways (analytics/wire.py): read, written, read the same."""

from __future__ import annotations

from collections.abc import Iterator

from shaped import chosen, either

from analytics import wire
from analytics.errors import MessageError
from analytics.measurement import Rung

ALLOWED = (MessageError,)


def target(data: bytes) -> object:
    return either(data, _from_agent, _from_server)


def _from_agent(data: bytes) -> None:
    message = wire.decode_from_agent(data)
    assert wire.decode_from_agent(wire.encode(message)) == message


def _from_server(data: bytes) -> None:
    message = wire.decode_from_server(data)
    assert wire.decode_from_server(wire.encode(message)) == message


def order() -> wire.TestOrder:
    return wire.TestOrder(
        test="t1",
        cycle=7,
        peer="pacs",
        peer_fingerprint="AB:" * 31 + "AB",
        controlling=True,
        rungs=[Rung.LAN, Rung.SRFLX],
        ice_servers=[wire.IceServer(url="stun:192.0.2.1:3478")],
        grant=bytes(80),
        peer_identity_key=bytes(32),
        peer_binding=bytes(80),
    )


def seeds() -> Iterator[bytes]:
    for message in (
        wire.Welcome(tenant="default", server_version="0.1.0", stun=["stun:192.0.2.1:3478"], time=bytes(80)),
        order(),
        wire.TestCancel(test="t1", why="gone"),
        wire.MeshSwitch(on=False),
        wire.Notice(code="x", text="what was said"),
    ):
        yield chosen(1, wire.encode(message).encode())
    for message in (wire.Notice(code="x", text="y"),):
        yield chosen(0, wire.encode(message).encode())
    yield chosen(0, b'{"type":"hello","agent_version":"0.1.0","boot":"00c0ffee"}')
    yield chosen(0, b'{"type":"signal","test":"t1","body":{"x":[[[[[[1]]]]]]}}')
    yield chosen(0, b'{"type":"test_ended","test":"t1","rung":"lan","error":""}')
    yield chosen(0, b'{"type":"nat_report","mapping":"endpoint","filtering":"endpoint"}')
