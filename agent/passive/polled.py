"""What lies between two polls: which sessions are new, which are gone, and the record of each.

Two lists of sockets and a time go in; nothing is asked here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from agent.passive.inetdiag import Socket
from agent.passive.procfs import Held
from ebpf.events import NOT_MEASURED_U32, RECORD, Opener, OwnerEvidence, SessionEvent, TcpState, decode

_ANY: Final = (bytes(10) + b"\xff\xff" + bytes(4), bytes(16))
"""What a socket that listens on every address says: 0.0.0.0 or ::."""

_UNANSWERED: Final = frozenset({TcpState.SYN_SENT, TcpState.SYN_RECV})
_FIN_ACKED: Final = frozenset({TcpState.FIN_WAIT2})
_FIN_RECEIVED: Final = frozenset({TcpState.CLOSE_WAIT, TcpState.LAST_ACK, TcpState.CLOSING})

_INFO: Final = {
    "options": (5, "B"),
    "rate_flags": (7, "B"),
    "mss": (16, "I"),
    "lost": (32, "I"),
    "srtt_us": (68, "I"),
    "rttvar_us": (72, "I"),
    "cwnd": (80, "I"),
    "reordering": (88, "I"),
    "retransmitted": (100, "I"),
    "bytes_acked": (120, "Q"),
    "bytes_received": (128, "Q"),
    "segments_sent": (136, "I"),
    "segments_received": (140, "I"),
    "min_rtt_us": (148, "I"),
    "data_segments_received": (152, "I"),
    "data_segments_sent": (156, "I"),
    "rate_bytes_per_s": (160, "Q"),
    "busy_us": (168, "Q"),
    "rwnd_limited_us": (176, "Q"),
    "sndbuf_limited_us": (184, "Q"),
    "bytes_sent": (200, "Q"),
    "bytes_retransmitted": (208, "Q"),
    "dsack_duplicates": (216, "I"),
    "reordering_seen": (220, "I"),
    "peer_window": (228, "I"),
}
"""Field of the record, or what one is made of -> offset and type in struct tcp_info (linux/tcp.h)."""

_APP_LIMITED: Final = 1  # of rate_flags
_SYN_DATA: Final = 32  # of options: TCPI_OPT_SYN_DATA
_MOST_U32: Final = 0xFFFFFFFF


def _layout() -> struct.Struct:
    """Make one struct of the table, with holes for what is not wanted."""
    code, at = "=", 0
    for offset, kind in _INFO.values():
        code += f"{offset - at}x{kind}"
        at = offset + struct.calcsize("=" + kind)
    return struct.Struct(code)


_TCP_INFO: Final = _layout()
_MIN_RTT_AT: Final = _INFO["min_rtt_us"][0]
_NOT_MEASURED: Final = (
    bytes(_MIN_RTT_AT) + struct.pack("=I", NOT_MEASURED_U32) + bytes(_TCP_INFO.size - _MIN_RTT_AT - 4)
)
"""What a kernel with a shorter struct tcp_info does not tell."""

_Places = frozenset[tuple[int, bytes]]  # ports and addresses

(_BLANK,) = decode(bytes(RECORD.size))


@dataclass(slots=True, kw_only=True)
class Followed:
    """A socket from the first poll that found it to the last one."""

    socket: Socket  # as last found
    first_seen_ns: int
    seen_ns: int  # the last time
    opener: Opener
    accepted: bool  # something listens where it came in
    held: Held | None = None  # the last process that was found to hold it
    asked_inode: int = 0  # it was looked for, under this inode
    polls: int = 1  # that found it
    absent: bool = False  # the last poll did not find it

    @property
    def listens(self) -> bool:
        """True of a listening socket, which is no session."""
        return self.socket.state == TcpState.LISTEN

    @property
    def service_port(self) -> int:
        """Port of the side that listened; the lower one where that is not known."""
        local, remote = self.socket.ports
        if self.accepted or self.listens:
            return local
        return remote if self.opener == Opener.LOCAL else min(local, remote)


class Polled:
    """The sockets of one network namespace, from poll to poll."""

    def __init__(self) -> None:
        self._followed: dict[int, Followed] = {}
        self._listening: _Places = frozenset()
        self._begun = False

    def __iter__(self) -> Iterator[Followed]:
        """Give those that the last poll found."""
        return (one for one in self._followed.values() if not one.absent)

    def take(self, found: Mapping[int, Socket], now_ns: int) -> tuple[list[Followed], list[Followed]]:
        """Take a poll. Give the sessions that are new, and those that are gone.

        A socket is gone when two polls did not find it: between two pieces of a list the kernel lets go of
        its table, so that one poll can pass over a socket that is there.
        """
        before, self._listening = self._listening, frozenset(_listening(found))
        new = [
            self._follow(cookie, one, before | self._listening, now_ns)
            for cookie, one in found.items()
            if not self._see_again(cookie, one, now_ns)
        ]
        self._begun = True
        return [one for one in new if not one.listens], [one for one in self._gone(found) if not one.listens]

    def _see_again(self, cookie: int, one: Socket, now_ns: int) -> bool:
        known = self._followed.get(cookie)
        if known is None:
            return False
        known.socket, known.seen_ns, known.absent = one, now_ns, False
        known.polls += 1
        return True

    def _follow(self, cookie: int, one: Socket, listening: _Places, now_ns: int) -> Followed:
        """Begin to follow a socket. A listener that went since the last poll may have accepted it."""
        accepted = one.state != TcpState.LISTEN and _is_accepted(one, listening)
        followed = self._followed[cookie] = Followed(
            socket=one,
            first_seen_ns=now_ns,
            seen_ns=now_ns,
            opener=self._opener(one, accepted=accepted),
            accepted=accepted,
        )
        return followed

    def _opener(self, one: Socket, *, accepted: bool) -> Opener:
        """Tell who opened it. Those of the first poll are older than it, whoever did: unknown."""
        if not self._begun or one.state == TcpState.LISTEN:
            return Opener.UNKNOWN
        return Opener.REMOTE if accepted else Opener.LOCAL

    def _gone(self, found: Mapping[int, Socket]) -> list[Followed]:
        gone = []
        for cookie in self._followed.keys() - found.keys():
            if self._followed[cookie].absent:
                gone.append(self._followed.pop(cookie))
            else:
                self._followed[cookie].absent = True
        return gone


def record(followed: Followed, *, netns: int, closed: bool = False) -> SessionEvent:
    """Write what was last seen of a socket as the eBPF programs would; what inet_diag has not is 0.

    A session that is ``closed`` had done at least this, and lasted at least until then.
    """
    state = followed.socket.state
    fields = _endpoints(followed.socket) | _traffic(followed.socket.info) | _owner(followed.held)
    fields |= {
        "netns": netns,
        "cookie": followed.socket.cookie,
        "first_seen_ns": followed.first_seen_ns,
        "at_ns": followed.seen_ns,
        "opener": followed.opener,
        "service_port": followed.service_port,
        "old_state": state,
        "state": TcpState.CLOSE if closed else state,
        "established": not followed.listens and state not in _UNANSWERED,
        "fin_acked": state in _FIN_ACKED,
        "fin_received": state in _FIN_RECEIVED,
        "congestion": followed.socket.congestion.ljust(16, b"\0"),
    }
    return _BLANK._replace(**fields)


def is_told(event: SessionEvent) -> bool:
    """Tell whether the record of a closed session says something.

    An attempt that was unanswered when it was last seen may have gone well since, unless it had waited for so
    long that its SYN was repeated.
    """
    return bool(event.established or event.retransmitted)


def _listening(found: Mapping[int, Socket]) -> Iterator[tuple[int, bytes]]:
    listeners = (one for one in found.values() if one.state == TcpState.LISTEN)
    return ((one.ports[0], one.addresses[0]) for one in listeners)


def _is_accepted(one: Socket, listening: _Places) -> bool:
    port, address = one.ports[0], one.addresses[0]
    return any((port, where) in listening for where in chain((address,), _ANY))


def _endpoints(one: Socket) -> dict[str, Any]:
    local, remote = one.addresses
    local_port, remote_port = one.ports
    return {
        "family": one.family,
        "local": local,
        "remote": remote,
        "local_port": local_port,
        "remote_port": remote_port,
    }


def _owner(held: Held | None) -> dict[str, Any]:
    if held is None:
        return {}
    process = held.process
    return {
        "pid": process.pid,
        "owner_started_ns": process.started_ns,
        "command": process.command,
        "owner_evidence": OwnerEvidence.FILE_TABLE,
    }


def _traffic(info: bytes) -> dict[str, Any]:
    """Name the numbers of a struct tcp_info as the record does."""
    whole = info + _NOT_MEASURED[len(info) :]
    told = dict(zip(_INFO, _TCP_INFO.unpack_from(whole), strict=True))
    flags, options, rate = told.pop("rate_flags"), told.pop("options"), told.pop("rate_bytes_per_s")
    return told | {
        "app_limited": flags & _APP_LIMITED,
        "fast_open": bool(options & _SYN_DATA),
        **_rate(rate, mss=told["mss"], srtt_us=told["srtt_us"]),
    }


def _rate(bytes_per_s: int, *, mss: int, srtt_us: int) -> dict[str, int]:
    """Split a delivery rate into segments and time: TCP_INFO has only the quotient.

    The kernel takes its samples over about one round trip (net/ipv4/tcp_rate.c), so that this one is assumed
    to be that long. The quotient is right to one part in ``rate_interval_us``.
    """
    if not bytes_per_s or not mss:
        return {}
    segments = max(1, round(bytes_per_s * srtt_us / (mss * 1_000_000)))
    interval_us = max(1, segments * mss * 1_000_000 // bytes_per_s)
    return {"rate_delivered": min(segments, _MOST_U32), "rate_interval_us": min(interval_us, _MOST_U32)}
