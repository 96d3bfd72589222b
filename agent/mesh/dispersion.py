"""Capacity from the arrival times of one packet train: pure arithmetic.

A bottleneck spaces back-to-back packets out to its own rate, so the slope of arrival time is the time of
one packet. It is taken over the END of the train, because the head may ride on a token bucket's burst (first
to last is 2 to 11 % too fast there): over the second half, or the last quarter if the second half still slows
down. Where packets were lost, it is the send index that explains the times if the loss was behind the
bottleneck, and the order of arrival if it was in front: the better fit of the two counts.

Packets come in bunches where a timer or an interrupt lets several through at once (token buckets at
1 Gbit/s, NAPI, GRO, Wi-Fi). Small ones do no harm: at the END of each bunch all that could be through by then
is through, to within a packet, so the line is put through the ends. It is called ``measured`` only if nothing
speaks against it (``DOUBTS``): few large bunches, and a receiver that was held up and then took in what had
piled up, make slopes that no cable has. Then what is told is a lower bound, and no more than what really got
through in the time it took.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Final

from analytics.measurement import CapacityTrust

LEAST_PACKETS: Final = 16
LEAST_TAIL: Final = 16  # for a slope of the last quarter
SURE_SHARE: Final = 0.5  # of the train that must arrive to be sure
BUNCHED_GAP: Final = 0.25  # a packet this much of its time behind the one before came with it
LEAST_BUNCHES: Final = 6  # in the tail; of fewer, one more or less makes too much of a difference
STEADY: Final = 1.15  # slopes of two halves differ by no more
SPED_UP: Final = 1.15  # no queue lets a train get faster towards its end
MOST_OFF: Final = 0.1  # of the tail's length that a packet may be off the line
PILED_UP: Final = "packets piled up before they arrived"
FASTEST_KBPS: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one train says; ``why`` it is not called measured."""

    capacity_kbps: int | None
    trust: CapacityTrust
    why: str = ""


UNKNOWN: Final = Estimate(None, CapacityTrust.NONE)


def unknown(why: str) -> Estimate:
    """No number, and the reason."""
    return Estimate(None, CapacityTrust.NONE, why)


@dataclass(frozen=True, slots=True)
class Line:
    """A least-squares line through (x, time in ns), and the points it was put through."""

    xs: Sequence[int]
    times: Sequence[int]
    slope: float
    off: float  # sum of squared distances

    @property
    def furthest(self) -> float:
        """How far the points are from it at most, first to last side."""
        points = zip(self.xs, self.times, strict=True)
        away = [t - self.times[0] - self.slope * (x - self.xs[0]) for x, t in points]
        return max(away) - min(away)

    @property
    def length(self) -> float:
        """Time that it spans."""
        return self.slope * (self.xs[-1] - self.xs[0])


Points = Sequence[tuple[int, int]]


def estimate(arrivals: Points, *, packets: int, packet_bytes: int) -> Estimate:
    """Capacity from (index, kernel stamp in ns); ``packet_bytes`` with IP header."""
    arrivals = sorted(arrivals, key=itemgetter(1))
    if len(arrivals) < LEAST_PACKETS:
        return unknown(f"{len(arrivals)} of {packets} packets arrived")
    whole, tail = _lines(arrivals)
    why = next((why for why, doubts in DOUBTS.items() if doubts(whole, tail)), "")
    if not why and len(arrivals) < SURE_SHARE * packets:
        why = f"only {len(arrivals)} of {packets} packets arrived"
    if not why:
        return Estimate(_kbps(packet_bytes, tail.slope), CapacityTrust.MEASURED)
    delivered = delivered_kbps([stamp_ns for _, stamp_ns in arrivals], packet_bytes)
    if delivered is None:
        return unknown("all packets arrived at one instant")
    least = min(delivered, _kbps(packet_bytes, tail.slope)) if tail.slope > 0 else delivered
    return Estimate(least, CapacityTrust.AT_LEAST, why)


def delivered_kbps(times: Sequence[int], packet_bytes: int) -> int | None:
    """What got through in the time it took; None if it took none.

    Packets that came with the first one, as a bunch, do not count: nobody saw how long they took.
    """
    took_ns = times[-1] - times[0] if times else 0
    if took_ns <= 0:
        return None
    bunch_ns = BUNCHED_GAP * took_ns / (len(times) - 1)
    head = next(n for n, (a, b) in enumerate(pairwise(times)) if b - a >= bunch_ns)
    return _kbps(packet_bytes, (times[-1] - times[head]) / (len(times) - 1 - head))


def _lines(arrivals: Points) -> tuple[Line, Line]:
    """All of the train, and the steady end of it."""
    indices, times = [index for index, _ in arrivals], [stamp_ns for _, stamp_ns in arrivals]
    count = len(arrivals)
    half, quarter = count // 2, count - count // 4
    orders = (indices, list(range(count)))
    xs, tail = min(((xs, _tail(xs, times, half)) for xs in orders), key=lambda found: found[1].off)
    whole = fit(xs, times)
    if _is_unsteady(whole, tail) and count - quarter >= LEAST_TAIL:
        end = _tail(xs, times, quarter)
        if end.slope > tail.slope and not _is_unsteady(whole, end):
            return whole, end
    return whole, tail


def _tail(xs: Sequence[int], times: Sequence[int], begin: int) -> Line:
    """The line through the ends of the bunches from ``begin`` on; the last bunch may have been cut short."""
    xs, times = xs[begin:], times[begin:]
    near = BUNCHED_GAP * max(0.0, fit(xs, times).slope)
    apart = [
        b - a >= near * max(1, to - of)
        for (of, to), (a, b) in zip(pairwise(xs), pairwise(times), strict=True)
    ]
    ends = [n for n, is_end in enumerate([*apart, all(apart)]) if is_end]
    return fit([xs[n] for n in ends], [times[n] for n in ends]) if len(ends) > 1 else fit(xs, times)


def fit(xs: Sequence[int], times: Sequence[int]) -> Line:
    """Put the line through. Stamps are large: counted from the first one, or floats would round them."""
    ys = [t - times[0] for t in times]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0
    off = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    return Line(xs, times, slope, off)


def _is_bunched(_whole: Line, tail: Line) -> bool:
    """Too few bunches to tell a rate from."""
    return tail.slope <= 0 or len(tail.xs) < LEAST_BUNCHES


def _is_unsteady(_whole: Line, tail: Line) -> bool:
    """The two halves of the tail have slopes of their own."""
    half = len(tail.xs) // 2
    slopes = sorted(fit(tail.xs[part], tail.times[part]).slope for part in (slice(half), slice(half, None)))
    return slopes[0] <= 0 or slopes[1] > STEADY * slopes[0]


def _is_scattered(_whole: Line, tail: Line) -> bool:
    """Packets are further off the line than its end is sure."""
    return tail.furthest > MOST_OFF * tail.length


def _has_sped_up(whole: Line, tail: Line) -> bool:
    """The tail came faster than the train on the whole: it had piled up somewhere, and was let go."""
    took_ns = whole.times[-1] - whole.times[0]
    return took_ns > SPED_UP * tail.slope * (max(whole.xs) - min(whole.xs))


DOUBTS: Final[dict[str, Callable[[Line, Line], bool]]] = {
    "packets arrived in bunches": _is_bunched,
    PILED_UP: _has_sped_up,
    "the rate did not settle": _is_unsteady,
    "arrival times scatter": _is_scattered,
}
"""Why a slope is no measurement, and how that is seen."""


def _kbps(packet_bytes: int, slope_ns: float) -> int:
    return min(round(packet_bytes * 8e6 / slope_ns), FASTEST_KBPS) if slope_ns > 0 else FASTEST_KBPS
