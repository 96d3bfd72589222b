"""Capacity of one direction by packet-train dispersion.

The sender puts datagrams of one length on the wire back to back (UDP GSO); a bottleneck spaces them out to
its own rate; the receiver reads the kernel's receive stamps. The slope of arrival time over the SECOND half
of the train is the time of one packet: the first half may ride on a token bucket's burst (first to last is 2
to 11 % too fast there). Where packets were lost, it is the send index that explains the times if the loss was
behind the bottleneck, and the order of arrival if it was in front: the better fit of the two counts.

What is found is called ``measured`` only if the arrivals lie evenly on the line and the train was sent
clearly faster than it arrived. Bunched arrivals (NAPI, GRO, Wi-Fi) say ``at-least``; too few packets, or
stamps of the process, say nothing at all.

Pure but for ``send_trains``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from agent.mesh.channel import Channel
from agent.mesh.packet import Raw, RawKind, TrainComing, TrainReady, TrainResult, TrainSent
from agent.mesh.stamps import Arrival
from analytics.measurement import CapacityTrust
from analytics.wire import ProbePlan

LEAST_PACKETS: Final = 16
SURE_SHARE: Final = 0.5  # of the train that must arrive to be sure
BUNCHED_GAP: Final = 0.25  # a gap below this part of the slope is a bunch ...
BUNCHED_SHARE: Final = 0.25  # ... and more of them than this are no line
SENDER_MARGIN: Final = 0.7  # found faster than this part of the send rate: the sender was the limit
IDLE_NS: Final = 300_000_000  # nothing for so long: the train is in
FIRST_WAIT_NS: Final = 2_000_000_000  # and so long if nothing came at all
POLL_S: Final = 0.2
RESULT_WITHIN_S: Final = 12.0  # 250 kB at 200 kbit/s
FASTEST_KBPS: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one train says."""

    capacity_kbps: int | None
    trust: CapacityTrust


UNKNOWN: Final = Estimate(None, CapacityTrust.NONE)


def estimate(arrivals: Sequence[tuple[int, int]], *, packets: int, packet_bytes: int) -> Estimate:
    """Capacity from (index, kernel stamp in ns), in order of arrival; ``packet_bytes`` with IP header."""
    if len(arrivals) < LEAST_PACKETS:
        return UNKNOWN
    half = arrivals[len(arrivals) // 2 :]
    times = [stamp_ns for _, stamp_ns in half]
    fits = [_fit([index for index, _ in half], times), _fit(range(len(half)), times)]
    slope_ns, _ = min(fits, key=lambda fit: fit[1])
    bunched = _is_bunched(times)
    doubtful = bunched or len(arrivals) < SURE_SHARE * packets
    if bunched or slope_ns <= 0:
        slope_ns = max(slope_ns, (arrivals[-1][1] - arrivals[0][1]) / (len(arrivals) - 1))
    if slope_ns <= 0:
        return UNKNOWN
    capacity_kbps = min(round(packet_bytes * 8e6 / slope_ns), FASTEST_KBPS)
    return Estimate(capacity_kbps, CapacityTrust.AT_LEAST if doubtful else CapacityTrust.MEASURED)


def _fit(xs: Sequence[int], ys: Sequence[int]) -> tuple[float, float]:
    """Slope and sum of squared residuals of the least-squares line."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    residuals = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    return slope, residuals


def _is_bunched(times: Sequence[int]) -> bool:
    mean_gap = (times[-1] - times[0]) / (len(times) - 1)
    short = sum(b - a < BUNCHED_GAP * mean_gap for a, b in pairwise(times))
    return mean_gap <= 0 or short > BUNCHED_SHARE * (len(times) - 1)


@dataclass(slots=True)
class TrainReceiver:
    """Collects one announced train."""

    coming: TrainComing
    token: bytes
    header_bytes: int
    announced_ns: int
    _arrivals: dict[int, int] = field(default_factory=dict)  # index -> stamp, in order of arrival
    _kernel: bool = True
    _last_ns: int = 0

    def on_datagram(self, raw: Raw, arrival: Arrival) -> bool:
        """Take a datagram; False if it is not of this train."""
        coming = self.coming
        if raw.token != self.token or raw.sequence >= coming.packets or raw.length != coming.length:
            return False
        self._arrivals.setdefault(raw.sequence, arrival.received_ns)
        self._kernel &= arrival.kernel
        self._last_ns = arrival.received_ns
        return True

    def result(self, now_ns: int) -> TrainResult:
        """What is known by now."""
        if not self._is_settled(now_ns):
            return TrainResult(settled=False)
        found = UNKNOWN
        if self._kernel:
            length = self.coming.length + self.header_bytes
            arrivals = list(self._arrivals.items())
            found = estimate(arrivals, packets=self.coming.packets, packet_bytes=length)
        return TrainResult(
            settled=True,
            received=len(self._arrivals),
            capacity_kbps=found.capacity_kbps,
            trust=found.trust,
        )

    def _is_settled(self, now_ns: int) -> bool:
        if not self._arrivals:
            return now_ns - self.announced_ns > FIRST_WAIT_NS
        return len(self._arrivals) == self.coming.packets or now_ns - self._last_ns > IDLE_NS


async def send_trains(
    plan: ProbePlan,
    channel: Channel,
    send: Callable[[Sequence[bytes]], bool],
    *,
    header_bytes: int,
    monotonic_ns: Callable[[], int],
) -> Estimate:
    """Send the plan's trains and ask what they measured; the median of the best kind of answer."""
    found = []
    for train in range(plan.trains):
        coming = TrainComing(train, plan.train_packets, plan.train_bytes)
        ready = await channel.ask(coming, TrainReady)
        begin_ns = monotonic_ns()
        if not send(_datagrams(coming, ready.token)):
            continue
        took_ns = max(1, monotonic_ns() - begin_ns)
        result = await _result(channel, train)
        sent_kbps = (plan.train_bytes + header_bytes) * 8e6 * plan.train_packets / took_ns
        found.append(_judge(result, sent_kbps))
    return _best(found)


def _datagrams(coming: TrainComing, token: bytes) -> list[bytes]:
    return [
        Raw(RawKind.TRAIN, token, index, length=coming.length).encode() for index in range(coming.packets)
    ]


async def _result(channel: Channel, train: int) -> TrainResult:
    """Ask until the receiver calls the train in."""
    async with asyncio.timeout(RESULT_WITHIN_S):
        while True:
            result = await channel.ask(TrainSent(train), TrainResult)
            if result.settled:
                return result
            await asyncio.sleep(POLL_S)


def _judge(result: TrainResult, sent_kbps: float) -> Estimate:
    """A train that arrived about as fast as it was sent met no bottleneck: its rate is a lower bound."""
    if result.capacity_kbps is None:
        return UNKNOWN
    limited_here = result.capacity_kbps > SENDER_MARGIN * sent_kbps
    return Estimate(result.capacity_kbps, CapacityTrust.AT_LEAST if limited_here else result.trust)


def _best(found: Sequence[Estimate]) -> Estimate:
    for trust in (CapacityTrust.MEASURED, CapacityTrust.AT_LEAST):
        values = sorted(e.capacity_kbps for e in found if e.trust is trust and e.capacity_kbps is not None)
        if values:
            return Estimate(values[len(values) // 2], trust)
    return UNKNOWN
