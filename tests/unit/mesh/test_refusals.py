"""Each kind of packet that is not taken has its own counter; none is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from agent.health import health, line
from agent.mesh import ice
from agent.mesh.channel import Channel
from agent.mesh.packet import Control, Counters, Kind, Noted, Probe, Raw, RawKind, encode_control
from agent.mesh.refusals import Refusal, Refusals
from agent.mesh.stamps import Arrival, OnSent

TOKEN, NOBODYS = bytes(8), bytes(range(8))
NOW = Arrival(1, True)


class Link:
    """A link that only listens."""

    on_message: Callable[[bytes, Arrival, bool], None]
    on_raw: Callable[[bytes, Arrival], None]

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, message: bytes, on_sent: OnSent | None = None) -> bool:
        self.sent.append(message)
        return True


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def channel(link: Link) -> Channel:
    made = Channel(cast(Any, link))
    made.on_raw = dict.fromkeys((RawKind.HOP_REPLY, RawKind.TRAIN), lambda raw, _: raw.token == TOKEN)
    return made


def test_raw_datagrams_are_refused_by_kind(channel: Channel, link: Link) -> None:
    good = Raw(RawKind.TRAIN, TOKEN, 1, length=200).encode()
    link.on_raw(good, NOW)
    assert not channel.refusals
    link.on_raw(good, NOW)  # the very same again
    link.on_raw(Raw(RawKind.TRAIN, NOBODYS, 1, length=200).encode(), NOW)
    link.on_raw(Raw(RawKind.HOP_PROBE, TOKEN, 1).encode(), NOW)  # nobody here answers those
    link.on_raw(good[:-1], NOW)
    link.on_raw(b"\xff" * 40, NOW)
    assert channel.refusals == {Refusal.REPLAYED: 1, Refusal.FORGED: 3, Refusal.UNSOLICITED: 1}
    assert channel.refused == 5
    assert link.sent == []


def test_what_is_remembered_of_raw_datagrams_is_bounded(
    channel: Channel, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.mesh.channel.MOST_RAW", 10)
    for index in range(50):
        link.on_raw(Raw(RawKind.TRAIN, TOKEN, index, length=200).encode(), NOW)
    assert len(channel._raws) == 10
    assert not channel.refusals


def test_messages_in_dtls_are_refused_by_kind(channel: Channel, link: Link) -> None:
    link.on_message(b"\x01\x09\x00\x04", NOW, False)
    link.on_message(Probe(Kind.REQUEST, 1, 5).encode()[:-1], NOW, False)
    link.on_message(encode_control(Control(7, Noted())), NOW, False)  # an answer to nothing that was asked
    link.on_message(encode_control(Control(7, Counters(1, 2, 3))), NOW, False)
    assert channel.refusals == {Refusal.FORGED: 2, Refusal.UNSOLICITED: 2}
    assert link.sent == []


def record(number: int) -> bytes:
    return b"\x17\xfe\xfd" + number.to_bytes(8, "big") + b"\0\1x"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (1_000, Refusal.FORGED),  # seen, but with other bytes
        (999, Refusal.FORGED),  # within the window
        (2_000, Refusal.FORGED),
        (900, Refusal.LATE),  # never seen, and too far behind to tell
        (901, Refusal.REPLAYED),  # seen
        (1, Refusal.REPLAYED),  # of before all that is remembered
    ],
)
def test_records_that_dtls_refused_are_told_apart(number: int, kind: Refusal) -> None:
    link = object.__new__(ice.SecureLink)
    link._seen = ice.OrderedDict((record(n)[3:11], (b"", b"")) for n in (800, 901, 1_000))
    link._newest = record(1_000)[3:11]
    assert link._kind_of(record(number)[3:11]) is kind


def test_health_tells_each_kind() -> None:
    refusals = Refusals({Refusal.FORGED: 1, Refusal.REPLAYED: 2, Refusal.UNSOLICITED: 3, Refusal.LATE: 4})
    now = health(
        None,
        batches_waiting=0,
        packets_refused=10,
        refusals=refusals,
        grants_refused={"grant-expired": 5},
    )
    kinds = (now.packets_forged, now.packets_replayed, now.packets_unsolicited, now.packets_late)
    assert kinds == (1, 2, 3, 4)
    assert now.grants_refused == {"grant-expired": 5}
    assert "packets_refused=forged:1,late:4,replayed:2,unsolicited:3" in line(now)
    assert line(now).endswith(" grants_refused=grant-expired:5")
