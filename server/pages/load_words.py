"""What a test found out about a way under load, about its queues and its losses, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from analytics import words
from analytics.aim import Use, bufferbloat, classify
from analytics.measurement import Reading

USES = {Use.CALLS: "calls", Use.GAMING: "gaming"}
"""Those that need no download rate: of a rate, a test often knows a lower bound only."""


def load_notes(reading: Reading) -> list[str]:
    """What is to be said of one direction, a sentence each; nothing of what was not measured."""
    return [
        *_load(reading),
        *_uses(reading),
        *_queue(reading),
        *_bursts(reading),
        *_one_way(reading),
        *_why(reading),
    ]


def _rise_us(reading: Reading) -> int | None:
    if reading.rtt_loaded_p50_us is None or reading.rtt_p50_us is None:
        return None
    return max(0, reading.rtt_loaded_p50_us - reading.rtt_p50_us)


def _load(reading: Reading) -> Iterator[str]:
    rise_us = _rise_us(reading)
    if rise_us is not None:
        letter = bufferbloat(rise_us / 1000, rise_us / 1000)
        yield f"Under load the round trip rises by {words.ms(rise_us)} ms (bufferbloat {letter})."


def _uses(reading: Reading) -> Iterator[str]:
    """Cloudflare's classes, where all that they need was measured."""
    rise_us = _rise_us(reading)
    measured = {
        "latency_ms": _ms(reading.rtt_p50_us),
        "loaded_increase_ms": _ms(rise_us),
        "jitter_ms": _ms(reading.ipdv_us),
        "loss": 1 - reading.received / reading.sent if reading.sent else None,
    }
    classes = {name: classify(use, measured) for use, name in USES.items()}
    told = [f"{name} {found}" for name, found in classes.items() if found is not None]
    if told:
        yield f"As a line (AIM): {', '.join(told)}."


def _ms(us: int | None) -> float | None:
    return None if us is None else us / 1000


def _queue(reading: Reading) -> Iterator[str]:
    if reading.queueing_p95_us is not None:
        waited = words.ms(reading.queueing_p95_us)
        yield f"Of the packets to {reading.dst}, 95 % waited less than {waited} ms in queues."


def _bursts(reading: Reading) -> Iterator[str]:
    if (reading.loss_longest or 0) > 1:
        yield f"Packets are lost in a row, up to {reading.loss_longest} at once."


def _one_way(reading: Reading) -> Iterator[str]:
    if reading.one_way_min_us is not None and reading.one_way_bound_us is not None:
        least, bound = words.ms(reading.one_way_min_us), words.ms(reading.one_way_bound_us)
        yield f"One way to {reading.dst} takes {least} ms at least, give or take {bound} ms."


def _why(reading: Reading) -> Iterator[str]:
    if reading.capacity_why:
        yield f"Capacity: {reading.capacity_why}."
