"""Pairs of readings by chance, every case that a grade knows among them; only tests import this."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import pyarrow as pa

from analytics.measurement import CapacityTrust, Reading, Rung
from analytics.sql.grades import BACK, OWN
from tests.unit.analytics.facts import AT_US

Ends = tuple[Reading, Reading | None]
RTTS = ("rtt_p25_us", "rtt_p50_us", "rtt_p75_us", "rtt_p90_us", "rtt_p95_us", "rtt_p99_us")
_TEXT = {"src", "dst", "a_error", "a_rung", "a_capacity_trust", "b_capacity_trust"}


def one(draw: random.Random, src: str, dst: str, *, tidy: bool) -> Reading:
    """A reading; a tidy one is what a healthy fleet sends, and so has a letter more often."""
    n = 300 if tidy else draw.choice([0, 5, 10, 58, 59, 298, 299, 1000])
    base, spread = draw.lognormvariate(10.3, 1.2), draw.choice([0.01, 0.1, 1.0])
    rtts: list[int | None] = [*sorted(round(base * (1 + draw.random() * spread)) for _ in RTTS)]
    if not n:
        rtts = [None] * len(RTTS)
    elif not tidy and draw.random() < 0.2:
        rtts[draw.randrange(len(RTTS))] = None
    sent = 300 if tidy else draw.choice([0, 50, 299, 300, 364, 728, 1000])
    lost = min(sent, draw.choice([0, 0, 0, 1, 2, round(draw.expovariate(0.1)), draw.randint(0, sent)]))
    cycle = AT_US // 1_000_000 - (60 if tidy else draw.choice([60, 60, 60, 800, 899, 2_000]))
    started_us = cycle * 1_000_000 + draw.randint(-1, 10) * 1_000_000
    return Reading(
        tenant="default",
        cycle=cycle,
        test="t",
        src=src,
        dst=dst,
        started_us=started_us,
        ended_us=started_us + (30_000_000 if tidy else draw.choice([30_000_000, -5, 10**9])),
        rung=draw.choice([Rung.LAN] * 15 + [Rung.NONE]),
        error=draw.choice([""] * 15 + ["broke off"]),
        sent=sent,
        received=sent - lost + (0 if tidy else draw.choice([0] * 9 + [3])),
        rtt_n=n,
        **dict(zip(RTTS, rtts, strict=True)),
        capacity_kbps=draw.choice([None, 100_000, draw.randint(1, 10**6), round(draw.lognormvariate(10, 2))]),
        capacity_trust=draw.choice(list(CapacityTrust)),
    )


def many(count: int, seed: int) -> list[Ends]:
    """Pairs of ends, each path by its own name."""
    draw = random.Random(seed)
    found: list[Ends] = []
    for number in range(count):
        tidy, src, dst = draw.random() < 0.5, f"a{number}", f"b{number}"
        back = one(draw, dst, src, tidy=tidy) if tidy or draw.random() < 0.8 else None
        found.append((one(draw, src, dst, tidy=tidy), back))
    return found


def table(ends: Sequence[Ends]) -> pa.Table:
    """As the relation that is graded."""
    columns: dict[str, list[Any]] = {name: [getattr(own, name) for own, _ in ends] for name in ("src", "dst")}
    columns |= {f"a_{name}": [_plain(getattr(own, name)) for own, _ in ends] for name in OWN}
    columns |= {
        f"b_{name}": [None if back is None else _plain(getattr(back, name)) for _, back in ends]
        for name in BACK
    }
    return pa.table(
        {
            name: pa.array(values, pa.string() if name in _TEXT else pa.int64())
            for name, values in columns.items()
        }
    )


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, StrEnum) else value
