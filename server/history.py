"""What the server remembers of each pair's tests, and what it calls a change. Pure.

A pair that changed is tested first, and in full, for a few cycles: one reading says that something is
different, the next ones say what.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import msgspec

from analytics.measurement import Reading, Rung
from server.schedule import Pair

ATTENTION: Final = 3
"""Tests that a pair gets before quiet ones once it changed."""

RTT_STEP_US: Final = 1_000
"""A median that moved less is the noise of a busy host, not another path."""
RTT_STEP_BP: Final = 2_500
"""Nor is one that moved by less than a quarter."""
LOSSY_BP: Final = 100
"""From here on users notice, and the kernel's TCP slows down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one test of a pair came to, by the worse of its two ends. ``None``: not measured."""

    at_us: int
    full: bool
    rung: Rung
    rtt_us: int | None = None
    loss_bp: int | None = None


class History(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is remembered of one pair. Half a million of them: the garbage collector need not look at one."""

    tested_us: int
    full_us: int = 0  # the latest test in full; 0 = never
    rung: Rung = Rung.NONE
    rtt_us: int | None = None
    loss_bp: int | None = None
    attention: int = 0  # tests before quiet pairs that it still gets


def after(before: History | None, now: Outcome) -> History:
    """Take a test into account."""
    attention = 0 if before is None else max(0, before.attention - 1)
    if before is not None and is_changed(before, now):
        attention = ATTENTION
    return History(
        tested_us=now.at_us,
        full_us=now.at_us if now.full else before.full_us if before else 0,
        rung=now.rung,
        rtt_us=now.rtt_us,
        loss_bp=now.loss_bp,
        attention=attention,
    )


def between_cycles(before: History | None, now: Outcome) -> History:
    """Take a test between cycles into account: it may call for attention, but takes no turn of the pair."""
    if before is None:
        return after(None, now)
    attention = ATTENTION if is_changed(before, now) else before.attention
    return msgspec.structs.replace(
        before, rung=now.rung, rtt_us=now.rtt_us, loss_bp=now.loss_bp, attention=attention
    )


def is_changed(before: History, now: Outcome) -> bool:
    """Say whether a test found something else than the one before it."""
    return before.rung is not now.rung or _moved(before.rtt_us, now.rtt_us) or _lossy(before) != _lossy(now)


def _moved(before_us: int | None, now_us: int | None) -> bool:
    if before_us is None or now_us is None:
        return False
    step_us = abs(now_us - before_us)
    return step_us >= RTT_STEP_US and 10_000 * step_us >= RTT_STEP_BP * before_us


def _lossy(seen: History | Outcome) -> bool:
    return (seen.loss_bp or 0) >= LOSSY_BP


class Told(NamedTuple):
    """What of a path's latest reading is recalled: the fields that ``remembered`` reads."""

    src: str
    dst: str
    ended_us: int
    rung: Rung
    rtt_p50_us: int | None
    sent: int
    received: int
    capacity_kbps: int | None

    @classmethod
    def of(cls, *values: Any) -> Told:
        """Make one of stored values, in the order of the fields."""
        src, dst, ended_us, rung, *rest = values
        return cls(src, dst, ended_us, _RUNGS[rung], *rest)


_RUNGS: Final = {rung.value: rung for rung in Rung}


def remembered(readings: Iterable[Reading | Told]) -> dict[Pair, History]:
    """Recall the pairs from their latest readings: after a restart the oldest is still the first in turn."""
    found: dict[Pair, History] = {}
    for reading in readings:
        pair = Pair(*sorted((reading.src, reading.dst)))
        known = found.get(pair)
        if known is None or known.tested_us < reading.ended_us:
            found[pair] = _recalled(reading)
    return found


def _recalled(reading: Reading | Told) -> History:
    loss_bp = 10_000 * max(0, reading.sent - reading.received) // reading.sent if reading.sent else None
    return History(
        tested_us=reading.ended_us,
        full_us=reading.ended_us if reading.capacity_kbps is not None else 0,
        rung=reading.rung,
        rtt_us=reading.rtt_p50_us,
        loss_bp=loss_bp,
    )


def worse(one: Outcome, other: Outcome) -> Outcome:
    """Join the word of both ends of one test."""
    rtts = [end.rtt_us for end in (one, other) if end.rtt_us is not None]
    losses = [end.loss_bp for end in (one, other) if end.loss_bp is not None]
    failed = Rung.NONE in (one.rung, other.rung)
    return replace(
        one,
        rung=Rung.NONE if failed else one.rung,
        rtt_us=max(rtts, default=None),
        loss_bp=max(losses, default=None),
    )
