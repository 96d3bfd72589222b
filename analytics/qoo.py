"""Quality of Outcome: how near a path comes to what an application needs (draft-ietf-ippm-qoo). Pure.

Section 3.3: between the requirement for perfection (100) and the point where the application is useless (0)
the score falls in a straight line; the worst dimension decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What an application needs: of each dimension what is perfect, and what is useless."""

    latency: Mapping[int, tuple[float, float]]  # percentile -> (perfect, useless), any one unit
    loss: tuple[float, float] | None = None  # shares, 0..1
    throughput: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a path gives, in the units of the requirement."""

    latency: Mapping[int, float] = field(default_factory=dict)
    loss: float = 0.0
    throughput: float = 0.0


def score(need: Requirement, seen: Measured) -> float:
    """0 (useless) to 100 (perfect). Raises ``KeyError`` where a needed percentile was not measured."""
    parts = [_nearness(seen.latency[at], *bounds) for at, bounds in need.latency.items()]
    if need.loss is not None:
        parts.append(_nearness(seen.loss, *need.loss))
    if need.throughput is not None:
        parts.append(1.0 if seen.throughput >= need.throughput else 0.0)
    return 100 * min(parts, default=1.0)


def _nearness(value: float, perfect: float, useless: float) -> float:
    return min(1.0, max(0.0, 1 - (value - perfect) / (useless - perfect)))
