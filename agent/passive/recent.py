"""The last sessions of this host, kept as the kernel wrote them; decoded only when somebody asks."""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from collections.abc import Iterator
from errno import errorcode
from typing import Final, Literal, NamedTuple

from agent.passive.columns import Key, newest_first
from agent.passive.listeners import Seen
from agent.passive.owner import Owner
from analytics.measurement import Session
from ebpf.events import (
    NOT_MEASURED_U32,
    RUN,
    Opener,
    Reset,
    SessionEvent,
    TcpState,
    address_text,
    command_text,
)

MOST_BYTES: Final = 1024 * 1024
"""3,700 sessions: minutes of a busy host, a fraction of a second of a storm. All of it stays resident."""

_RUN_OVERHEAD: Final = 128
"""What Python adds to a run: its own header, a tuple and a time."""

_ID_BYTES: Final = 5
_STATES: Final[dict[int, str]] = {state.value: state.name for state in TcpState}


class _Kept(NamedTuple):
    at_ns: int
    run: bytes


class Recent:
    """A bounded ring of runs: by age, and by bytes."""

    def __init__(self, *, keep_s: float, most_bytes: int = MOST_BYTES) -> None:
        self._keep_ns = int(keep_s * 1_000_000_000)
        self._most_bytes = most_bytes
        self._runs: deque[_Kept] = deque()
        self._bytes = 0

    def take(self, run: bytes, now_ns: int) -> None:
        """Keep a run; ``now_ns`` is CLOCK_MONOTONIC, as the times in the records are."""
        if run:
            most = (self._most_bytes - _RUN_OVERHEAD) // RUN.size * RUN.size
            self._add(_Kept(now_ns, run[-most:] if len(run) > most else run))
        self._drop_old(now_ns - self._keep_ns)

    def clear(self) -> None:
        """Forget them all."""
        self._runs.clear()
        self._bytes = 0

    def newest(self, now_ns: int) -> Iterator[SessionEvent]:
        """Decode the sessions, the last one taken first, as far as they are asked for."""
        self._drop_old(now_ns - self._keep_ns)
        for kept in reversed(list(self._runs)):
            yield from newest_first(kept.run)

    def _add(self, kept: _Kept) -> None:
        self._runs.append(kept)
        self._bytes += len(kept.run) + _RUN_OVERHEAD
        while self._bytes > self._most_bytes:
            self._drop()

    def _drop_old(self, oldest_ns: int) -> None:
        while self._runs and self._runs[0].at_ns < oldest_ns:
            self._drop()

    def _drop(self) -> None:
        self._bytes -= len(self._runs.popleft().run) + _RUN_OVERHEAD


class Ids:
    """Names sessions for people. Keyed, so that no kernel address can be guessed from a name."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(16)

    def of(self, key: Key) -> str:
        """Give 10 hexadecimal digits: the same for one session as long as this agent lives."""
        identity = b"".join(part.to_bytes(8, "little") for part in key)
        return hashlib.blake2b(identity, key=self._key, digest_size=_ID_BYTES).hexdigest()


class Clocks(NamedTuple):
    """Two clocks read at once: turns CLOCK_MONOTONIC into microseconds since 1970."""

    wall_us: int
    monotonic_ns: int

    def wall_at(self, at_ns: int) -> int:
        """Tell when that was."""
        return self.wall_us - (self.monotonic_ns - at_ns) // 1000


def session(
    event: SessionEvent,
    *,
    id: str,  # the field's name
    at_us: int,
    seen: Seen,
    owner: Owner,
    source: Literal["ebpf", "inet_diag"],
) -> Session:
    """Write a session out for people; ``seen`` and ``owner`` are what a record does not tell."""
    return Session(
        id=id,
        at_us=at_us,
        open=not event.closed,
        state=_STATES.get(event.state, str(event.state)),
        process=command_text(seen.holder.command),
        pid=seen.holder.pid or None,
        thread=event.thread or None,
        uid=owner.uid,
        executable=owner.executable,
        unit=owner.unit,
        container=owner.container,
        guessed=seen.guessed,
        netns=event.netns,
        direction=seen.direction,
        local_address=address_text(event.local),
        local_port=event.local_port,
        remote_address=address_text(event.remote),
        remote_port=event.remote_port,
        service_port=seen.service_port,
        established=bool(event.established),
        connect_us=event.connect_us,
        duration_us=_duration_us(event),
        srtt_us=event.srtt_us or None,
        rttvar_us=event.rttvar_us if event.srtt_us else None,
        min_rtt_us=None if event.min_rtt_us == NOT_MEASURED_U32 else event.min_rtt_us,
        bytes_sent=max(0, event.payload_acked),
        bytes_received=max(0, event.payload_received),
        bytes_retransmitted=event.bytes_retransmitted,
        segments_sent=event.data_segments_sent,
        segments_received=event.data_segments_received,
        segments_retransmitted=event.retransmitted,
        segments_lost=event.lost,
        reordering_seen=event.reordering_seen,
        dsack_duplicates=event.dsack_duplicates,
        busy_us=event.busy_us,
        rwnd_limited_us=event.rwnd_limited_us,
        sndbuf_limited_us=event.sndbuf_limited_us,
        mss=event.mss,
        cwnd=event.cwnd,
        peer_window=event.peer_window,
        delivery_kbps=_delivery_kbps(event),
        app_limited=bool(event.app_limited),
        congestion=command_text(event.congestion),
        resets_sent=bool(event.reset & Reset.SENT),
        resets_received=bool(event.reset & Reset.RECEIVED),
        error=errorcode.get(event.error, str(event.error)) if event.error else "",
        fast_open=bool(event.fast_open),
        source=source,
    )


def _duration_us(event: SessionEvent) -> int | None:
    if event.opener == Opener.UNKNOWN or not event.first_seen_ns:
        return None
    return (event.at_ns - event.first_seen_ns) // 1000


def _delivery_kbps(event: SessionEvent) -> int | None:
    rate = event.delivery_bytes_per_s
    return None if rate is None else rate * 8 // 1000
