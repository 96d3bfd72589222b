"""One TCP session as the kernel told it: the Python twin of ``struct session_event``.

The C side is ``programs/event.h``. The compiler checks the two against each other: every
compilation carries ``offset_asserts()``, so that a difference is an error, not a wrong number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Annotated, Final, Literal, NamedTuple, Protocol, get_type_hints

from ebpf.layout import offset_assert

U64 = Annotated[int, "Q"]
U32 = Annotated[int, "I"]
U16 = Annotated[int, "H"]
U8 = Annotated[int, "B"]
Bytes16 = Annotated[bytes, "16s"]

NOT_MEASURED_U32: Final = 0xFFFFFFFF
"""The kernel's min_rtt before its first sample."""

_V4_MAPPED: Final = bytes(10) + b"\xff\xff"


class TcpState(IntEnum):
    """States of a socket (include/net/tcp_states.h)."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11


class Opener(IntEnum):
    """Who opened a session, seen from this host."""

    UNKNOWN = 0  # the session is older than the monitor
    LOCAL = 1
    REMOTE = 2


class OwnerEvidence(IntEnum):
    """What tied a session to its process, weakest to strongest."""

    NONE = 0
    FILE_TABLE = 1  # the process holds a descriptor of it
    CLOSE = 2
    IO = 3
    CONNECT = 4


class Reset(IntFlag):
    """Who ended a session with a reset."""

    NONE = 0
    SENT = 1  # by this host
    RECEIVED = 2


class SessionEvent(NamedTuple):
    """A session at its close (``state`` is CLOSE) or in a snapshot. Member by member event.h.

    The first members, up to ``established``, are what sessions are summed by: one run of bytes (``GROUP``).
    """

    owner_started_ns: U64  # start of the owner's process, CLOCK_BOOTTIME: with pid, its identity; 0 = unknown
    local: Bytes16  # IPv4 as ::ffff:a.b.c.d
    remote: Bytes16
    command: Bytes16  # of the thread group's leader, NUL-padded
    netns: U32
    pid: U32  # thread group; 0 = unknown
    service_port: U16  # of the side that listened; the lower one where the opener is not known
    opener: U8
    established: U8  # 0 = the peer never answered, or refused
    # --- what differs from session to session
    thread: U32  # the thread that was seen; not the thread group
    cookie: U64  # the kernel's number of the socket; with first_seen_ns, the identity of the session
    first_seen_ns: U64  # this and the other _ns: CLOCK_MONOTONIC; 0 = not seen
    at_ns: U64
    syn_ns: U64
    established_ns: U64
    bytes_sent: U64  # payload, repeats included (tcpi_bytes_sent)
    bytes_acked: U64  # as TCP_INFO says it: SYN and FIN count as a byte each
    bytes_retransmitted: U64
    bytes_received: U64
    busy_us: U64  # had something to send (tcpi_busy_time); resolution: the kernel's tick
    rwnd_limited_us: U64  # of it, held up by the peer's receive window
    sndbuf_limited_us: U64  # of it, held up by this host's send buffer
    srtt_us: U32  # 0 = no sample
    rttvar_us: U32
    min_rtt_us: U32  # NOT_MEASURED_U32 = no sample
    retransmitted: U32  # segments (tcpi_total_retrans)
    lost: U32  # segments thought lost now (tcpi_lost)
    reordering: U32  # segments (tcpi_reordering)
    reordering_seen: U32  # events (tcpi_reord_seen)
    dsack_duplicates: U32  # segments the peer had already (RFC 2883)
    data_segments_sent: U32
    data_segments_received: U32
    segments_sent: U32
    segments_received: U32
    rate_delivered: U32  # segments delivered in rate_interval_us
    rate_interval_us: U32
    mss: U32
    cwnd: U32  # segments
    peer_window: U32  # bytes the peer would take now (tcpi_snd_wnd)
    family: U16
    local_port: U16
    remote_port: U16
    error: U16  # errno the socket ended with (sk_err); 0 = none
    old_state: U8  # at a close, the state before it; CLOSE where that is not known
    state: U8
    owner_evidence: U8
    app_limited: U8  # the rate was limited by the application
    fin_acked: U8
    fin_received: U8
    reset: U8
    fast_open: U8  # data went with the SYN (RFC 7413)
    congestion: Bytes16  # name of the congestion control
    reserved: Annotated[bytes, "4s"]  # zero

    @property
    def key(self) -> tuple[int, int]:
        """What tells this session from every other of this monitor."""
        return self.cookie, self.first_seen_ns

    @property
    def closed(self) -> bool:
        """True where this is the last that will be heard of the session."""
        return self.state == TcpState.CLOSE

    @property
    def process(self) -> str:
        """Command name of the owner; empty = unknown."""
        return command_text(self.command)

    @property
    def local_address(self) -> str:
        """Own address; v4-mapped ones as IPv4."""
        return address_text(self.local)

    @property
    def remote_address(self) -> str:
        """The peer's address; v4-mapped ones as IPv4."""
        return address_text(self.remote)

    @property
    def payload_acked(self) -> int:
        """Bytes of the application that the peer acknowledged: without SYN and FIN.

        The kernel counts the SYN where this host sent it first, not where it answered with SYN-ACK.
        """
        syn = self.opener == Opener.LOCAL and self.established
        return self.bytes_acked - syn - self.fin_acked

    @property
    def payload_received(self) -> int:
        """Bytes of the application that came in: without the FIN."""
        return self.bytes_received - self.fin_received

    @property
    def delivery_bytes_per_s(self) -> int | None:
        """Delivery rate as tcp_compute_delivery_rate() has it; None = no sample."""
        if not self.rate_interval_us:
            return None
        return self.rate_delivered * self.mss * 1_000_000 // self.rate_interval_us

    @property
    def connect_us(self) -> int | None:
        """SYN to established where this host connected: elsewhere the difference is no latency."""
        if self.opener != Opener.LOCAL or not self.syn_ns or not self.established_ns:
            return None
        return (self.established_ns - self.syn_ns) // 1000


def _formats() -> dict[str, str]:
    hints = get_type_hints(SessionEvent, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in SessionEvent._fields}


_GROUP: Final = SessionEvent._fields[: SessionEvent._fields.index("established") + 1]

FORMATS: Final = _formats()
"""Field -> struct code, in order; without gaps, because every member stands at a multiple of its size."""

RECORD: Final = struct.Struct("<" + "".join(FORMATS.values()))

RING_HEADER: Final = "8x"
"""Before each record in the ring (ebpf/ring.py). Drained records keep theirs, so that a run is one copy."""

RUN: Final = struct.Struct("<" + RING_HEADER + "".join(FORMATS.values()))
"""One record of a run, as ``Monitor.drain`` gives it."""

GROUP_SIZE: Final = struct.calcsize("<" + "".join(FORMATS[name] for name in _GROUP))
"""Bytes of ``SessionEvent``'s first members, which make its group."""


def decode(records: bytes) -> list[SessionEvent]:
    """Decode bare records that follow each other. Raises struct.error for a partial one."""
    return list(map(SessionEvent._make, RECORD.iter_unpack(records)))


def decode_run(run: bytes) -> list[SessionEvent]:
    """Decode a run as ``Monitor.drain`` gives it. Raises struct.error for a partial record."""
    return list(map(SessionEvent._make, RUN.iter_unpack(run)))


class OwnerFacts(NamedTuple):
    """What the kernel kept of a process that owns sessions, so that it can be told after its end."""

    uid: int
    executable: str  # path in its own root; empty = unknown
    cgroup: str  # last part of its cgroup's path (version 2); empty = the root


class Counters(NamedTuple):
    """What was seen, and what was not. ``seen`` = delivered + ``lost`` once all is drained."""

    seen: tuple[int, ...]  # closes, by CPU
    lost: tuple[int, ...]  # of them, those that found the ring full, by CPU
    missed: int  # runs of a program left out by the kernel (recursion_misses), or without room for a session


class SessionSource(Protocol):
    """What tells of TCP sessions: the eBPF programs, or a substitute that polls."""

    @property
    def source(self) -> Literal["ebpf", "inet_diag"]:
        """What saw the sessions."""

    def drain(self) -> bytes:
        """Take the sessions that closed since the last call, in order of their closing: a run."""

    def snapshot(self) -> list[SessionEvent]:
        """Ask for the sessions open now, and the listening sockets. One held by two processes comes twice."""

    def owner(self, pid: int, started_ns: int) -> OwnerFacts | None:
        """Tell what is known of a process beyond its name; None = nothing, or another process's by now."""

    def counters(self) -> Counters:
        """Count since the source was opened."""


class PausableSource(SessionSource, Protocol):
    """A source that can be told to see nothing for a while. What it counted stays counted."""

    def pause(self) -> None:
        """See nothing from now on, and forget what was not drained: nothing of it stays in the kernel."""

    def resume(self) -> None:
        """See again, with nothing known of before. Does nothing where it was not paused."""


def command_text(command: bytes) -> str:
    """Write a command name as text."""
    return command.split(b"\0", 1)[0].decode("utf-8", "replace")


def address_text(packed: bytes) -> str:
    """Write an address as text; IPv4 where it is v4-mapped (RFC 4291, 2.5.5.2)."""
    if packed.startswith(_V4_MAPPED):
        return inet_ntop(AF_INET, packed[len(_V4_MAPPED) :])
    return inet_ntop(AF_INET6, packed)


def offset_asserts() -> Iterator[str]:
    """Make the compiler compare ``struct session_event`` with this module, member by member."""
    yield f'_Static_assert(sizeof(struct session_event) == {RECORD.size}, "size of struct session_event");'
    offset = 0
    for name, code in FORMATS.items():
        yield offset_assert("session_event", name, offset)
        offset += struct.calcsize("<" + code)
