"""The numbers of one direction, as they come out of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.mesh import probe
from agent.mesh.dispersion import Estimate
from agent.mesh.oneway import Above, OneWay
from agent.mesh.packet import Counters
from agent.mesh.trace import Traced


@dataclass(frozen=True, slots=True)
class Spread:
    """Some times in order, in ns."""

    ordered_ns: Sequence[int]

    def us(self, percent: int) -> int:
        """A percentile, in microseconds."""
        return round(probe.percentile(self.ordered_ns, percent) / 1000)


@dataclass(frozen=True, slots=True)
class Measured:
    """The numbers of this end's direction."""

    sent: int
    counters: Counters
    rtt: probe.RttSummary
    one_way: OneWay | None
    above: Above | None
    timers_late: Spread | None
    capacity: Estimate
    loaded: Spread | None
    sent_bytes: int
    traced: Traced


def spread(times_ns: Sequence[int]) -> Spread | None:
    """Put times in order; None where there are none."""
    return Spread(sorted(times_ns)) if times_ns else None
