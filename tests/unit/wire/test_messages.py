"""Control messages: round trips, and what is refused."""

import pytest

from analytics import wire
from analytics.errors import MessageError
from analytics.measurement import Rung


def test_an_order_comes_back_as_it_went() -> None:
    order = wire.TestOrder(
        test="t1",
        cycle=5,
        peer="home",
        peer_fingerprint="AA",
        controlling=True,
        rungs=[Rung.LAN, Rung.SRFLX],
        ice_servers=[wire.IceServer(url="stun:198.51.100.10:3478")],
    )
    assert wire.decode_from_server(wire.encode(order)) == order


def test_a_signal_carries_a_tagged_body() -> None:
    signal = wire.Signal(test="t1", body=wire.RungResult(rung=Rung.SRFLX, ok=False, why="no answer"))
    assert wire.decode_from_agent(wire.encode(signal)) == signal


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{}",
        '{"type": "reboot"}',
        '{"type": "hello"}',
        '{"type": "signal", "test": "t", "body": {"type": "rung_offer"}}',
        b"\xff",
        "[" * 50_000,
        "x" * (wire.MAX_MESSAGE + 1),
    ],
)
def test_what_is_no_message_is_refused(data: str | bytes) -> None:
    with pytest.raises(MessageError):
        wire.decode_from_agent(data)


def test_an_agent_cannot_give_orders() -> None:
    with pytest.raises(MessageError, match="mesh_switch"):
        wire.decode_from_agent(wire.encode(wire.MeshSwitch(on=False)))
