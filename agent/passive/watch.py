"""Watching the kernel's TCP sessions: drain, snapshot, hand over one window of flows after the other."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from agent.passive.sessions import FlowTable
from analytics.measurement import Flow
from ebpf.events import SessionEvent

_SECOND_US: Final = 1_000_000
_STEP_US: Final = _SECOND_US
"""A window that ends this far from its end: the clock was set, or the machine slept."""

_log = logging.getLogger(__name__)


class SessionSource(Protocol):
    """What this module needs of ``ebpf.load.Monitor``."""

    def drain(self) -> list[SessionEvent]:
        """Sessions closed since the last call."""

    def snapshot(self) -> list[SessionEvent]:
        """Sessions open now, and listening sockets."""

    @property
    def lost(self) -> int:
        """Sessions that closed and could not be told."""


def wall_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


async def watch(
    monitor: SessionSource,
    *,
    agent: str,
    tenant: str,
    sink: Callable[[list[Flow]], None],
    now_us: Callable[[], int] = wall_us,
    drain_every_s: float = 0.25,
    window_s: int = 10,
) -> None:
    """Hand the flows of each window to ``sink`` until cancelled; then hand over the last, shorter one.

    Windows end at multiples of ``window_s`` of the wall clock, so that those of different agents can be
    compared. An empty window is not handed over. The monitor must stay open until this has returned.
    """
    watching = _Watch(monitor, FlowTable(agent=agent, tenant=tenant), sink)
    watching.open(monitor.snapshot())
    window = _Window.first(now_us(), length_us=window_s * _SECOND_US)
    try:
        while True:
            await asyncio.sleep(min(drain_every_s, window.left_s(now_us())))
            watching.drain()
            if window.is_over(now_us()):
                watching.hand_over(window, ended_us=now_us())
                window = window.next(now_us())
    finally:
        watching.hand_over(window, ended_us=now_us())


@dataclass(frozen=True, slots=True)
class _Window:
    """From ``start_us`` to ``end_us`` on the wall clock; every ``length_us`` one ends."""

    start_us: int
    end_us: int
    length_us: int

    @classmethod
    def first(cls, now_us: int, *, length_us: int) -> _Window:
        return cls(now_us, (now_us // length_us + 1) * length_us, length_us)

    def left_s(self, now_us: int) -> float:
        return max(0, self.end_us - now_us) / _SECOND_US

    def is_over(self, now_us: int) -> bool:
        return now_us >= self.end_us or now_us < self.start_us - _STEP_US

    def next(self, now_us: int) -> _Window:
        """The one after this, without a gap; afresh where the clock was set."""
        if abs(now_us - self.end_us) > _STEP_US:
            return _Window.first(now_us, length_us=self.length_us)
        return _Window(self.end_us, self.end_us + self.length_us, self.length_us)

    def lasted_us(self, ended_us: int) -> int:
        """How long it was: its plan, or less if it was cut short, or more after a sleep, at most an hour.

        Where the clock was set back nobody can tell; it was about its plan.
        """
        if abs(ended_us - self.end_us) <= _STEP_US or ended_us <= self.start_us:
            return self.end_us - self.start_us
        return min(ended_us - self.start_us, 3600 * _SECOND_US)


class _Watch:
    """The table and what feeds it."""

    def __init__(self, monitor: SessionSource, table: FlowTable, sink: Callable[[list[Flow]], None]) -> None:
        self._monitor = monitor
        self._table = table
        self._sink = sink
        self._lost = monitor.lost
        self._dropped = 0

    def open(self, snapshot: list[SessionEvent]) -> None:
        self._table.take_open(snapshot)

    def drain(self) -> None:
        self._table.take_closed(self._monitor.drain())

    def hand_over(self, window: _Window, *, ended_us: int) -> None:
        """End a window. The snapshot comes first: what closed before it is told by the drain after it."""
        self._table.take_open(self._monitor.snapshot())
        self.drain()
        flows = self._table.flows(window_us=window.start_us, window_length_us=window.lasted_us(ended_us))
        self._say_what_is_missing()
        if flows:
            self._sink(flows)

    def _say_what_is_missing(self) -> None:
        lost, dropped = self._monitor.lost, self._table.dropped
        if lost > self._lost:
            _log.warning("%d TCP sessions were not told: the ring was full", lost - self._lost)
        if dropped > self._dropped:
            _log.warning("%d TCP sessions left out: too many different flows", dropped - self._dropped)
        self._lost, self._dropped = lost, dropped
