"""From the kernel's TCP sessions to flows: what each process exchanged with each remote service in a window.

Pure: sessions in, ``Flow`` rows out; no clock and no socket.

A session is told many times, in snapshots and at its close, and its counters run from its beginning. So what
counts for a window is the difference to what was accounted before. A session whose opening was not seen
(older than the agent) is accounted from the first time it is seen: what it did before belongs to no window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from analytics.measurement import Direction, Flow
from ebpf.events import NOT_MEASURED_U32, Opener, SessionEvent, TcpState, address_text, command_text

MOST_SESSIONS: Final = 65_536
"""Open sessions to remember, as many as the kernel side does. One more is counted at its close instead."""

MOST_FLOWS: Final = 10_000
"""Rows in one window. A scan of a whole network could make more; the rest is counted in ``dropped``."""

LEAST_RATE_SEGMENTS: Final = 10
"""An initial window (RFC 6928): over fewer, a rate tells how often the application spoke."""

ORPHAN_WINDOWS: Final = 30
"""How long to remember a session that no process holds: TCP gives up on one after a few minutes."""

_MOST_SAMPLES: Final = 1024
_DIRECTIONS: Final[dict[int, Direction]] = {
    Opener.UNKNOWN: Direction.UNKNOWN,
    Opener.LOCAL: Direction.OUT,
    Opener.REMOTE: Direction.IN,
}


class _Owner(NamedTuple):
    pid: int
    command: bytes


class _Counters(NamedTuple):
    """What only grows in the life of a session."""

    bytes_sent: int
    bytes_received: int
    segments_sent: int
    segments_retransmitted: int


_NOTHING: Final = _Counters(0, 0, 0, 0)


class _Key(NamedTuple):
    """What one row is summed over, as the kernel told it: text is made once a row, not once a session."""

    command: bytes
    direction: Direction
    local: bytes
    remote: bytes
    service_port: int
    netns: int


@dataclass(slots=True)
class _Account:
    """What of an open session went into rows already."""

    counters: _Counters
    direction: Direction
    window: int  # the last one in which a process held it


class _Sample:
    """Values for a median. Past a thousand every second one is left out, evenly over time."""

    def __init__(self) -> None:
        self._values: list[int] = []
        self._every = 1
        self._offered = 0

    def offer(self, value: int | None) -> None:
        if value is None:
            return
        if self._offered % self._every == 0:
            self._values.append(value)
        self._offered += 1
        if len(self._values) > _MOST_SAMPLES:
            self._values = self._values[::2]
            self._every *= 2

    def median(self) -> int | None:
        ordered = sorted(self._values)
        return ordered[(len(ordered) - 1) // 2] if ordered else None


@dataclass(slots=True)
class _Tally:
    """A row in the making."""

    pid: int = 0
    opened: int = 0
    closed: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    segments_sent: int = 0
    segments_retransmitted: int = 0
    rtt_min_us: int | None = None
    srtts_us: _Sample = field(default_factory=_Sample)
    connects_us: _Sample = field(default_factory=_Sample)
    delivery_kbps: int | None = None


class FlowTable:
    """Sums sessions up to rows. ``dropped`` counts the times a session found no room for its row."""

    def __init__(self, *, agent: str, tenant: str) -> None:
        self.dropped = 0
        self._agent = agent
        self._tenant = tenant
        self._window = 0
        self._accounts: dict[tuple[int, int], _Account] = {}
        self._listeners: dict[tuple[int, int], _Owner] = {}
        self._tallies: dict[_Key, _Tally] = {}

    def take_open(self, snapshot: Iterable[SessionEvent]) -> None:
        """Account for the sessions open now; learn who listens where."""
        told = list(snapshot)
        listening = [event for event in told if event.state == TcpState.LISTEN]
        self._listeners = {
            (event.netns, event.local_port): _Owner(event.pid, event.command) for event in listening
        }
        for event in told:
            if event.state != TcpState.LISTEN and event.was_established:
                self._account(event)

    def take_closed(self, events: Iterable[SessionEvent]) -> None:
        """Account for sessions that closed. One that never was established is no session."""
        for event in events:
            if event.was_established:
                self._account(event)

    def flows(self, *, window_us: int, window_length_us: int) -> list[Flow]:
        """Give the rows of the window that ends here, and begin the next."""
        rows = [
            self._row(key, tally, window_us=window_us, window_length_us=window_length_us)
            for key, tally in self._tallies.items()
        ]
        self._tallies = {}
        self._window += 1
        self._forget_orphans()
        return rows

    def _account(self, event: SessionEvent) -> None:
        """Add to a row what the session did since it was last told."""
        account = self._accounts.pop(event.key, None)
        first_told = account is None
        if first_told and not event.closed and len(self._accounts) >= MOST_SESSIONS:
            return
        counters = _counters(event)
        if account is None:
            account = _Account(self._before(event, counters), self._direction(event), self._window)
        done = _difference(counters, account.counters)
        opened = first_told and event.opener != Opener.UNKNOWN
        if opened or event.closed or any(done):
            self._add(event, account.direction, done, opened=opened)
        if not event.closed:
            self._accounts[event.key] = _Account(counters, account.direction, self._window)

    def _before(self, event: SessionEvent, counters: _Counters) -> _Counters:
        """What a session told for the first time did before this agent watched it."""
        return counters if event.opener == Opener.UNKNOWN else _NOTHING

    def _direction(self, event: SessionEvent) -> Direction:
        """Who opened it; of an older session, only that the peer did where something listens on its port."""
        if event.opener == Opener.UNKNOWN and (event.netns, event.local_port) in self._listeners:
            return Direction.IN
        return _DIRECTIONS[event.opener]

    def _add(self, event: SessionEvent, direction: Direction, done: _Counters, *, opened: bool) -> None:
        owner = self._owner(event, direction)
        tally = self._tally(_key(event, direction, owner))
        if tally is None:
            self.dropped += 1
            return
        tally.pid = owner.pid or tally.pid
        tally.opened += opened
        tally.closed += event.closed
        _add_counters(tally, done)
        if opened:
            tally.connects_us.offer(event.connect_us)
        if opened or done.segments_sent:
            _add_path(tally, event)

    def _tally(self, key: _Key) -> _Tally | None:
        tally = self._tallies.get(key)
        if tally is None and len(self._tallies) < MOST_FLOWS:
            tally = self._tallies[key] = _Tally()
        return tally

    def _owner(self, event: SessionEvent, direction: Direction) -> _Owner:
        """Whose session it is. One reset before anybody used it was still in its listener's queue."""
        seen = _Owner(event.pid, event.command)
        if event.pid or direction != Direction.IN:
            return seen
        return self._listeners.get((event.netns, event.local_port), seen)

    def _forget_orphans(self) -> None:
        oldest = self._window - ORPHAN_WINDOWS
        self._accounts = {key: account for key, account in self._accounts.items() if account.window >= oldest}

    def _row(self, key: _Key, tally: _Tally, *, window_us: int, window_length_us: int) -> Flow:
        return Flow(
            tenant=self._tenant,
            agent=self._agent,
            window_us=window_us,
            window_length_us=window_length_us,
            process=command_text(key.command),
            pid=tally.pid or None,
            direction=key.direction,
            local_address=address_text(key.local),
            remote_address=address_text(key.remote),
            service_port=key.service_port,
            netns=key.netns,
            opened=tally.opened,
            closed=tally.closed,
            bytes_sent=tally.bytes_sent,
            bytes_received=tally.bytes_received,
            segments_sent=tally.segments_sent,
            segments_retransmitted=tally.segments_retransmitted,
            rtt_min_us=tally.rtt_min_us,
            srtt_us=tally.srtts_us.median(),
            connect_us=tally.connects_us.median(),
            delivery_kbps=tally.delivery_kbps,
        )


def _counters(event: SessionEvent) -> _Counters:
    return _Counters(
        event.payload_acked, event.payload_received, event.data_segments_sent, event.retransmitted
    )


def _difference(now: _Counters, before: _Counters) -> _Counters:
    """What was added; never below zero, should the kernel take a counter back."""
    if before is _NOTHING:
        return now
    return _Counters._make(max(0, after - earlier) for after, earlier in zip(now, before, strict=True))


def _add_counters(tally: _Tally, done: _Counters) -> None:
    tally.bytes_sent += done.bytes_sent
    tally.bytes_received += done.bytes_received
    tally.segments_sent += done.segments_sent
    tally.segments_retransmitted += done.segments_retransmitted


def _key(event: SessionEvent, direction: Direction, owner: _Owner) -> _Key:
    port = _service_port(event, direction)
    return _Key(owner.command, direction, event.local, event.remote, port, event.netns)


def _service_port(event: SessionEvent, direction: Direction) -> int:
    """The port that listened; a guess, the lower one, only where the direction is unknown."""
    if direction == Direction.OUT:
        return event.remote_port
    if direction == Direction.IN:
        return event.local_port
    return min(event.local_port, event.remote_port)


def _add_path(tally: _Tally, event: SessionEvent) -> None:
    """Add what the session's own segments found out about the path."""
    tally.srtts_us.offer(event.srtt_us or None)
    if event.min_rtt_us != NOT_MEASURED_U32:
        least = tally.rtt_min_us
        tally.rtt_min_us = event.min_rtt_us if least is None else min(least, event.min_rtt_us)
    rate = event.delivery_bytes_per_s
    if rate is not None and not event.app_limited and event.rate_delivered >= LEAST_RATE_SEGMENTS:
        tally.delivery_kbps = max(tally.delivery_kbps or 0, rate * 8 // 1000)
