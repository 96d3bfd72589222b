"""Not the network: which end the sessions of a path waited for, from the sender's own kernel.

The kernel counts the time with something to send, and of it the time in which the peer's receive window or
the own send buffer was what stopped it (as in ``analytics/tcp_seen.py``). What is left of a session's life,
its program had nothing to send. The rules of one session are in ``analytics/tcp_limits.py``; those of a path
ask for more time and a greater share, as a whole service is named. Thresholds: ``rules/profiles.toml``. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from analytics import words
from analytics.fused import HeldUp
from analytics.letters import BAD
from analytics.measurement import Flow
from analytics.rules.load import FusionRule
from analytics.shapes import PathRow, Verdict


@dataclass(frozen=True, slots=True)
class Times:
    """Where the time of a path's sessions went, us. ``life_us`` is None where not all of it was seen."""

    busy_us: int
    rwnd_limited_us: int
    sndbuf_limited_us: int
    life_us: int | None

    @property
    def idle_us(self) -> int:
        """Time of the sessions' life with nothing to send; 0 where that is not known."""
        return 0 if self.life_us is None else max(0, self.life_us - self.busy_us)


def times_of(flows: Sequence[Flow]) -> Times:
    """Add up. The life counts where as many sessions closed as opened, and none is older than the windows."""
    busy, window, buffer, life, opened, closed = (
        sum(getattr(flow, name) for flow in flows)
        for name in ("busy_us", "rwnd_limited_us", "sndbuf_limited_us", "duration_us", "opened", "closed")
    )
    begin_us = min((flow.window_us for flow in flows), default=0)
    end_us = max((flow.window_us + flow.window_length_us for flow in flows), default=0)
    whole = opened == closed > 0 and life <= closed * (end_us - begin_us)
    return Times(busy, window, buffer, life if whole else None)


def held_up(flows: Sequence[Flow], src: str, dst: str, rule: FusionRule) -> HeldUp | None:
    """Name the end that held the sessions ``src`` -> ``dst`` up longest; None where neither did enough."""
    times = times_of(flows)
    sent = sum(flow.bytes_sent for flow in flows)
    parts = [(cause, *cause.share(times)) for cause in _CAUSES]
    holding = [
        (part_us, cause, 100 * part_us // of_us)
        for cause, part_us, of_us in parts
        if of_us >= rule.held_least_us
        and 100 * part_us >= rule.held_percent * of_us
        and (not cause.needs_transfer or sent >= rule.transfer_bytes)
    ]
    if not holding:
        return None
    _, cause, percent = max(holding, key=lambda one: one[0])  # of equals the first
    return HeldUp(
        whose=dst if cause.is_receiver else src,
        what=cause.what,
        percent=percent,
        rule=cause.rule,
        sentence=cause.sentence.format(percent=percent, src=src, dst=dst),
    )


def with_ends(told: Verdict, rows: Sequence[PathRow]) -> Verdict:
    """Add what the sessions of bad paths waited for that is not the network; ``rows`` worst first."""
    held = [
        row.fused.held_up
        for row in rows
        if row.grade.letter in BAD and row.fused is not None and row.fused.held_up is not None
    ]
    if not held:
        return told
    sentences = [one.sentence for one in held[:MOST_TOLD]]
    more = len(held) - MOST_TOLD
    rest = [f"So it is on {words.count(more, 'more path')}."] if more > 0 else []
    return msgspec.structs.replace(told, details=[*told.details, *sentences, *rest])


MOST_TOLD: Final = 5


@dataclass(frozen=True, slots=True)
class _Cause:
    what: str
    rule: str
    share: Callable[[Times], tuple[int, int]]  # the part, and what it is a part of, us
    sentence: str
    is_receiver: bool = False
    needs_transfer: bool = False  # less is messages, which end when there is no more to say


_CAUSES: Final = (
    _Cause(
        "receive window",
        "path.peer-window.v1",
        lambda times: (times.rwnd_limited_us, times.busy_us),
        "The wait is not the network's: for {percent} % of the time that {src} had something to send, "
        "the receive window of {dst} was full. The program there reads too slowly, or its receive buffer is "
        "too small for the path.",
        is_receiver=True,
    ),
    _Cause(
        "send buffer",
        "path.send-buffer.v1",
        lambda times: (times.sndbuf_limited_us, times.busy_us),
        "The wait is not the network's: for {percent} % of the time that {src} had something to send, "
        "its own send buffer was too small for the path. The program (SO_SNDBUF) or net.ipv4.tcp_wmem "
        "limits it.",
    ),
    _Cause(
        "application",
        "path.application.v1",
        lambda times: (times.idle_us, times.life_us or 0),
        # A viewer that holds back its answer waits for round trips with nothing on the way.
        "For {percent} % of its sessions' time {src} had nothing to send to {dst}: it worked, or waited to "
        "be asked. The network's part in that is the round trips of questions and answers.",
        needs_transfer=True,
    ),
)
