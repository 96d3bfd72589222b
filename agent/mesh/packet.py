"""Every packet of the mesh but ICE and DTLS itself (RFC 8762 semantics; layout of our own).

Probe request and reply, inside a DTLS record; both have one size, so that both ways cost the same::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+-------------------------------+
    |  version = 1  |     kind      |        length in bytes        |  kind: 1 request, 2 reply
    +---------------+---------------+-------------------------------+
    |                           sequence                            |  counts requests from 1
    +---------------------------------------------------------------+
    |           sent, ns since 1970: T1 of a request,               |  read by the process just
    |           T3 of a reply                                       |  before it sends
    +---------------------------------------------------------------+
    |           received, ns since 1970: T2, when the request       |  a reply only, else 0
    |           arrived                                             |
    +---------------+-----------------------------------------------+
    |     flags     |               reserved = 0                    |  flags: 1 = T2 is the kernel's
    +---------------+-----------------------------------------------+
    |           sequence of an earlier reply, 0 = none              |  two-step: when the kernel
    +---------------------------------------------------------------+  really sent an earlier
    |           kernel's T3 of that reply                           |  reply is known only after
    |                                                               |  it was sent, so it travels
    +---------------------------------------------------------------+  in the next ones, twice
    |           sequence of one more, 0 = none                      |  where there is room, for
    +---------------------------------------------------------------+  one may be lost; what is
    |           kernel's T3 of that reply                           |  lacking then is asked for
    |                                                               |
    +---------------------------------------------------------------+

Control, inside a DTLS record: the first four bytes as above (kind 3), then one msgpack map (``Control``).

Raw datagrams on the same 5-tuple, outside DTLS because they must be stamped, shaped or die on the way. The
first byte is one that RFC 7983 leaves unassigned; the token was handed over inside DTLS and is this test's
only::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+-------------------------------+
    |     kind      |  version = 1  |        length in bytes        |  kind: 0xC1 hop probe,
    +---------------+---------------+-------------------------------+        0xC2 hop reply,
    |                            token                              |        0xC3 train
    |                                                               |
    +---------------------------------------------------------------+
    |      sequence of the hop probe, or index in the train         |
    +---------------------------------------------------------------+
    |      hop reply: T2, ns since 1970; else 0                     |
    |                                                               |
    +---------------------------------------------------------------+
    |      hop reply: T3, ns since 1970; else 0                     |
    |                                                               |
    +---------------------------------------------------------------+
    |      train, and hop probe that tries the MTU: zeroes          |
    |      up to length                                             |
    +---------------------------------------------------------------+

All numbers big-endian. Anything that differs in version, kind or length is refused and counted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from analytics.errors import UNREADABLE
from analytics.measurement import CapacityTrust

VERSION: Final = 1
TOKEN_BYTES: Final = 8
MAX_CONTROL: Final = 1024
MOST_TOLD: Final = 32  # stamps, and runs of losses, in one answer: both fit into MAX_CONTROL
MOST_WHY: Final = 80
PART_BYTES: Final = 768  # of a receipt, in one ask
MOST_PARTS: Final = 8

_HEAD: Final = struct.Struct("!BBH")
_PROBE: Final = struct.Struct("!BBHIqqB3xIqIq")
_RAW: Final = struct.Struct(f"!BBH{TOKEN_BYTES}sIqq")

PROBE_BYTES: Final = _PROBE.size
RAW_BYTES: Final = _RAW.size
FLAG_KERNEL_RECEIVED: Final = 1

RAW_FIRST_BYTE: Final = 0xC0
"""RFC 7983: STUN is 0..3, DTLS 20..63, TURN channels 64..79, RTP 128..191; nobody owns 192..255."""


class PacketError(ValueError):
    """Bytes that are not a packet of this protocol version."""


class Kind(IntEnum):
    """What a message inside DTLS is."""

    REQUEST = 1
    REPLY = 2
    CONTROL = 3


class RawKind(IntEnum):
    """What a datagram outside DTLS is."""

    HOP_PROBE = 0xC1
    HOP_REPLY = 0xC2
    TRAIN = 0xC3


_RAW_KINDS: Final = frozenset(RawKind)


@dataclass(frozen=True, slots=True)
class SentStamp:
    """When the kernel sent an earlier reply."""

    sequence: int
    sent_ns: int


NO_STAMP: Final = SentStamp(0, 0)


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe request or reply."""

    kind: Kind
    sequence: int
    sent_ns: int
    received_ns: int = 0
    flags: int = 0
    earlier: tuple[SentStamp, SentStamp] = (NO_STAMP, NO_STAMP)

    def encode(self) -> bytes:
        """Lay out as drawn above."""
        first, second = self.earlier
        return _PROBE.pack(
            VERSION, self.kind, PROBE_BYTES, self.sequence, self.sent_ns, self.received_ns, self.flags,
            first.sequence, first.sent_ns, second.sequence, second.sent_ns,
        )  # fmt: skip  # one line a row of the drawing


@dataclass(frozen=True, slots=True)
class Raw:
    """A datagram outside DTLS."""

    kind: RawKind
    token: bytes
    sequence: int
    received_ns: int = 0
    sent_ns: int = 0
    length: int = RAW_BYTES

    def encode(self) -> bytes:
        """Lay out as drawn above."""
        fields = (self.kind, VERSION, self.length, self.token, self.sequence, self.received_ns, self.sent_ns)
        return _RAW.pack(*fields).ljust(self.length, b"\0")


# --- control ------------------------------------------------------------------------------------------------

Token = Annotated[bytes, msgspec.Meta(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Moment = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Ask: tell me when you are ready to be probed. Hop probes for me must carry ``token``.

    ``receipts``: the asker signs readings, and will check and sign the other end's, up to this layout
    (``analytics.receipts``); 0 = it does not.
    """

    token: Token
    receipts: Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)] = 0


class Started(msgspec.Struct, frozen=True, tag="started"):
    """Answer to ``Start``."""


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """Ask: my probes and hops are done, tell me what you received of the first ``sent``.

    ``lacking``: replies that came, but whose kernel's T3 has not been told.
    """

    sent: Count
    lacking: Annotated[list[Count], msgspec.Meta(max_length=MOST_TOLD)] = []


class Counters(msgspec.Struct, frozen=True, tag="counters"):
    """Answer to ``Finished``: the receiver's own count of the asker's requests."""

    received: Count
    duplicated: Count
    reordered: Count
    # Kernel's T3 of the replies that were said to be lacking it: (sequence, ns).
    earlier: Annotated[list[tuple[Count, int]], msgspec.Meta(max_length=MOST_TOLD)] = []
    bursts: Count | None = None  # runs of successive losses (RFC 3357: loss periods)
    # The longest of them, in order: (first sequence, length).
    runs: Annotated[list[tuple[Count, Count]], msgspec.Meta(max_length=MOST_TOLD)] = []
    clock_error_us: Count | None = (
        None  # how far the receiver's wall clock is from UTC at most; None = unknown
    )
    # Traffic class that most of the asker's hop probes came in with; None if none came, or it was not told.
    hop_class: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None


class TrainComing(msgspec.Struct, frozen=True, tag="train"):
    """Ask: take a train of ``packets`` datagrams of ``length`` bytes."""

    train: Annotated[int, msgspec.Meta(ge=0, le=16)]
    packets: Annotated[int, msgspec.Meta(ge=2, le=256)]
    length: Annotated[int, msgspec.Meta(ge=RAW_BYTES, le=1500)]


class TrainReady(msgspec.Struct, frozen=True, tag="train_ready"):
    """Answer to ``TrainComing``: its datagrams must carry ``token``."""

    token: Token


class TrainSent(msgspec.Struct, frozen=True, tag="train_sent"):
    """Ask: the train is out, tell me what you made of it."""

    train: Annotated[int, msgspec.Meta(ge=0, le=16)]


class TrainResult(msgspec.Struct, frozen=True, tag="train_result"):
    """Answer to ``TrainSent``. ``settled`` is False while packets may still be on their way."""

    settled: bool
    received: Count = 0
    capacity_kbps: Annotated[int, msgspec.Meta(ge=0, le=2**40)] | None = None
    trust: CapacityTrust = CapacityTrust.NONE
    why: Annotated[str, msgspec.Meta(max_length=MOST_WHY)] = ""  # not measured
    first_ns: Moment = 0  # arrivals by the receiver's kernel, ns since 1970
    last_ns: Moment = 0


class YourTurn(msgspec.Struct, frozen=True, tag="your_turn"):
    """Ask: my trains are over, now yours."""


class Over(msgspec.Struct, frozen=True, tag="over"):
    """Ask: all that I measure is measured; only sent to an end that signs receipts."""


class ReceiptPart(msgspec.Struct, frozen=True, tag="receipt"):
    """Ask: sign this too. The parts together are my signature, then the reading (``analytics.receipts``)."""

    part: Annotated[int, msgspec.Meta(ge=0, lt=MOST_PARTS)]
    parts: Annotated[int, msgspec.Meta(ge=1, le=MOST_PARTS)]
    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=PART_BYTES)]


class Witnessed(msgspec.Struct, frozen=True, tag="witnessed"):
    """Answer to ``ReceiptPart``. ``settled`` is False while parts lack; then a signature, or why not."""

    settled: bool
    signature: Annotated[bytes, msgspec.Meta(max_length=64)] = b""
    why: Annotated[str, msgspec.Meta(max_length=40)] = ""


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Ask: I have all I need. The asker leaves once the other end has said the same."""


class Noted(msgspec.Struct, frozen=True, tag="noted"):
    """Answer to ``YourTurn``, ``Over`` and ``Done``."""


Ask = Start | Finished | TrainComing | TrainSent | YourTurn | Over | ReceiptPart | Done
Answer = Started | Counters | TrainReady | TrainResult | Noted | Witnessed


class Control(msgspec.Struct, frozen=True, array_like=True):
    """An ask or the answer to it; ``number`` ties the two together."""

    number: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    body: Ask | Answer


_control: Final[msgspec.msgpack.Decoder[Control]] = msgspec.msgpack.Decoder(Control)


def encode_control(control: Control) -> bytes:
    """Lay out a control message."""
    body = msgspec.msgpack.encode(control)
    return _HEAD.pack(VERSION, Kind.CONTROL, _HEAD.size + len(body)) + body


def decode_message(data: bytes) -> Probe | Control:
    """Read a message that came inside DTLS; raises ``PacketError``."""
    version, kind, length = _head(data)
    if version != VERSION:
        raise PacketError(f"version {version}; this agent speaks {VERSION}")
    if length != len(data):
        raise PacketError(f"{len(data)} bytes that claim to be {length}")
    if kind == Kind.CONTROL:
        return _decode_control(data)
    if kind not in (Kind.REQUEST, Kind.REPLY) or length != PROBE_BYTES:
        raise PacketError(f"kind {kind} of {length} bytes")
    return _decode_probe(data)


def decode_raw(data: bytes) -> Raw:
    """Read a datagram that came outside DTLS; raises ``PacketError``."""
    if len(data) < RAW_BYTES:
        raise PacketError(f"{len(data)} bytes are too short")
    kind, version, length, token, sequence, received_ns, sent_ns = _RAW.unpack_from(data)
    if version != VERSION or length != len(data) or kind not in _RAW_KINDS:
        raise PacketError(f"kind {kind}, version {version}, length {length}")
    if kind == RawKind.HOP_REPLY and length != RAW_BYTES:
        raise PacketError(f"kind {kind} of {length} bytes")
    return Raw(RawKind(kind), token, sequence, received_ns, sent_ns, length)


def quoted_raw(data: bytes) -> tuple[bytes, int] | None:
    """Token and sequence of a hop probe as far as an ICMP error quoted it; None if it does not say."""
    if len(data) < _HEAD.size + TOKEN_BYTES + 4 or data[0] != RawKind.HOP_PROBE:
        return None
    end = _HEAD.size + TOKEN_BYTES
    return data[_HEAD.size : end], int.from_bytes(data[end : end + 4], "big")


def _head(data: bytes) -> tuple[int, int, int]:
    if len(data) < _HEAD.size:
        raise PacketError(f"{len(data)} bytes are too short")
    version, kind, length = _HEAD.unpack_from(data)
    return version, kind, length


def _decode_control(data: bytes) -> Control:
    if len(data) > MAX_CONTROL:
        raise PacketError(f"a control message of {len(data)} bytes; at most {MAX_CONTROL}")
    try:
        return _control.decode(data[_HEAD.size :])
    except UNREADABLE as error:
        raise PacketError(f"not a control message: {error}") from error


def _decode_probe(data: bytes) -> Probe:
    _, kind, _, sequence, sent_ns, received_ns, flags, s1, t1, s2, t2 = _PROBE.unpack(data)
    if sequence == 0:
        raise PacketError("sequence 0")
    return Probe(Kind(kind), sequence, sent_ns, received_ns, flags, (SentStamp(s1, t1), SentStamp(s2, t2)))
