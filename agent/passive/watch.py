"""Watching this host's TCP sessions: drain, snapshot, hand over one window of flows after the other."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

from agent.passive.columns import Key, set_apart
from agent.passive.owner import Owners
from agent.passive.recent import Clocks, Ids, Recent, session
from agent.passive.sessions import FlowTable
from analytics.measurement import Flow, Session
from ebpf.events import RUN, Counters, SessionEvent, SessionSource, TcpState, command_text

IDLE_S: Final = 0.1
"""Between two looks when little happens. The first look after a storm began must come before the ring is full
(2 MiB: 7,489 sessions): room for 70,000 closes a second."""

LEAST_S: Final = 0.005
AIM: Final = 1_000
"""Sessions to find at a look: an eighth of the ring, so that a look may come eight times too late."""

SPARING_WINDOWS: Final = 6
"""Of so many windows, one asks for the open sessions while the agent is sparing."""

_SECOND_US: Final = 1_000_000
_STEP_US: Final = _SECOND_US
"""A window that ends this far from its end: the clock was set, or the machine slept."""

_log = logging.getLogger(__name__)


def wall_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def pause_s(taken: int, waited_s: float, *, idle_s: float = IDLE_S) -> float:
    """Tell how long to wait for the next look, when that many sessions came in ``waited_s``."""
    soon = AIM * waited_s / taken if taken else idle_s
    return min(idle_s, max(LEAST_S, soon))


class Watch:
    """Watches one source of sessions. For the event loop's thread only; the source must outlive ``run``."""

    def __init__(
        self,
        source: SessionSource,
        *,
        agent: str,
        tenant: str,
        sink: Callable[[list[Flow]], None],
        now_us: Callable[[], int] = wall_us,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        window_s: int = 10,
        recent_s: float = 600,
        idle_s: float = IDLE_S,
    ) -> None:
        """Hand the flows of each window of ``window_s`` to ``sink``; keep sessions ``recent_s`` at most."""
        self._source = source
        self._sink = sink
        self._now_us = now_us
        self._monotonic_ns = monotonic_ns
        self._window_us = window_s * _SECOND_US
        self._idle_s = idle_s
        self._owners = Owners(source)
        self._table = FlowTable(agent=agent, tenant=tenant, owners=self._owners, source=source.source)
        self._recent = Recent(keep_s=recent_s)
        self._ids = Ids()
        self._missing = _Missing(source.counters(), source.source)
        self._pause_s = idle_s
        self._drained_ns = monotonic_ns()
        self._sparing = False
        self._window_number = 0

    def spare(self, on: bool) -> None:
        """Tell less: no closed sessions to look at, and open ones told once a minute; flows stay whole."""
        self._sparing = on
        if on:
            self._recent.clear()

    @property
    def dropped(self) -> int:
        """Sessions left out as there were too many different flows."""
        return self._table.dropped

    async def run(self) -> None:
        """Watch until cancelled; then hand over the last, shorter window.

        Windows end at multiples of their length of the wall clock, so that those of different agents can be
        compared. An empty window is not handed over.
        """
        self._table.take_open(self._source.snapshot())
        window = Window.first(self._now_us(), length_us=self._window_us)
        try:
            while True:
                await asyncio.sleep(min(self._pause_s, window.left_s(self._now_us())))
                self._drain()
                if window.is_over(self._now_us()):
                    self._hand_over(window)
                    window = window.next(self._now_us())
        finally:
            self._hand_over(window)

    def sessions(self, process: str | None, remote: str | None, limit: int) -> list[Session]:
        """Give the sessions open now, then those that closed of late, newest first; filters match exactly.

        ``process`` is a command name, ``remote`` an address.
        """
        opened = {told.key: told for told in self._source.snapshot() if told.state != TcpState.LISTEN}
        for closed in _of(self._drain(), opened):
            opened.pop(closed.key, None)
        clocks = Clocks(self._now_us(), self._monotonic_ns())
        newest = sorted(opened.values(), key=lambda event: event.first_seen_ns, reverse=True)
        told = chain(newest, self._recent.newest(clocks.monotonic_ns))
        return [self._session(event, clocks) for event in islice(self._wanted(told, process, remote), limit)]

    def _drain(self) -> bytes:
        """Take what closed; decide when to look again."""
        run = self._source.drain()
        now_ns = self._monotonic_ns()
        waited_s = (now_ns - self._drained_ns) / 1e9
        self._pause_s = pause_s(len(run) // RUN.size, waited_s, idle_s=self._idle_s)
        self._drained_ns = now_ns
        self._table.take_closed(run)
        if not self._sparing:
            self._recent.take(run, now_ns)
        return run

    def _hand_over(self, window: Window) -> None:
        """End a window. The snapshot comes first: what closed before it is told by the drain after it."""
        self._window_number += 1
        if not self._sparing or self._window_number % SPARING_WINDOWS == 0:
            self._table.take_open(self._source.snapshot())
        self._drain()
        lasted_us = window.lasted_us(self._now_us())
        flows = self._table.flows(window_us=window.start_us, window_length_us=lasted_us)
        self._missing.say(self._source.counters(), self._table.dropped)
        if flows:
            self._sink(flows)

    def _wanted(
        self, told: Iterable[SessionEvent], process: str | None, remote: str | None
    ) -> Iterator[SessionEvent]:
        if remote is not None:
            packed = _packed(remote)
            told = (event for event in told if event.remote == packed)
        if process is not None:
            told = (event for event in told if self._command(event) == process)
        return iter(told)

    def _command(self, event: SessionEvent) -> str:
        return command_text(self._table.see(event).holder.command)

    def _session(self, event: SessionEvent, clocks: Clocks) -> Session:
        seen = self._table.see(event)
        return session(
            event,
            id=self._ids.of(event.key),
            at_us=clocks.wall_at(event.at_ns),
            seen=seen,
            owner=self._owners.of(seen.holder.pid, seen.holder.started_ns),
            source=self._source.source,
        )


def _of(run: bytes, told: Mapping[Key, SessionEvent]) -> list[SessionEvent]:
    """Find the closes of those sessions in a run."""
    return set_apart(run, {socket for socket, _ in told}, told)[0]


def _packed(address: str) -> bytes | None:
    """Write an address as records have it; None = it is none."""
    for family, prefix in ((AF_INET, bytes(10) + b"\xff\xff"), (AF_INET6, b"")):
        with suppress(OSError):
            return prefix + inet_pton(family, address)
    return None


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start_us`` to ``end_us`` on the wall clock; every ``length_us`` one ends."""

    start_us: int
    end_us: int
    length_us: int

    @classmethod
    def first(cls, now_us: int, *, length_us: int) -> Window:
        """Begin now, to end where all agents' windows do."""
        return cls(now_us, (now_us // length_us + 1) * length_us, length_us)

    def left_s(self, now_us: int) -> float:
        """Time to its end."""
        return max(0, self.end_us - now_us) / _SECOND_US

    def is_over(self, now_us: int) -> bool:
        """True at its end, and where the clock was set back before its start."""
        return now_us >= self.end_us or now_us < self.start_us - _STEP_US

    def next(self, now_us: int) -> Window:
        """Give the one after this, without a gap; afresh where the clock was set."""
        if abs(now_us - self.end_us) > _STEP_US:
            return Window.first(now_us, length_us=self.length_us)
        return Window(self.end_us, self.end_us + self.length_us, self.length_us)

    def lasted_us(self, ended_us: int) -> int:
        """Tell how long it was: its plan, less if it was cut short, more after a sleep, at most an hour.

        Where the clock was set back nobody can tell; it was about its plan.
        """
        if abs(ended_us - self.end_us) <= _STEP_US or ended_us <= self.start_us:
            return self.end_us - self.start_us
        return min(ended_us - self.start_us, 3600 * _SECOND_US)


class _Missing:
    """Says what was not told since it last said so."""

    def __init__(self, counters: Counters, source: str) -> None:
        self._words = (*_LOST_WORDS, _MISSED_WORDS[source])
        self._said = (0, sum(counters.lost), counters.missed)

    def say(self, counters: Counters, dropped: int) -> None:
        now = (dropped, sum(counters.lost), counters.missed)
        for words, total, said in zip(self._words, now, self._said, strict=True):
            if total > said:
                _log.warning(words, total - said)
        self._said = now


_LOST_WORDS: Final = (
    "%d TCP sessions left out: too many different flows",
    "%d TCP sessions were not told: the ring was full",
)
_MISSED_WORDS: Final = {
    "ebpf": "%d runs of the eBPF programs were left out, or found no room: sessions lack an owner or a time",
    "inet_diag": "%d TCP sessions came and went between two polls",
}
