"""What the kernels of applications' hosts saw on a directed path, for the services of one profile.

READ FIRST: ``sent_by_pair``. A flow is told by the host that sends: its losses, rate and congestion control
are those of the direction host -> peer. The round trip is of both.

The kernel's numbers are those of a sender at work. While one fills the path, its smoothed round trip is that
of its own queue and its losses are that queue's overflow (measured: 253 segments sent again of 36,000 on a
loss-free 20 Mbit/s link under BBR). Such a window tells the rate of the path, and nothing of its delay and
loss; a window with a short queue tells the opposite. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from analytics.addresses import AddressBook
from analytics.evidence import LossCount
from analytics.histogram import counts_of, quantile
from analytics.measurement import CapacityTrust, Direction, Flow
from analytics.rules.load import FusionRule
from analytics.tcp_rates import Sender

Pair = tuple[str, str]
"""Who sends to whom."""
ServicePort = tuple[str, int]
"""Agent and port of a service."""

PAYLOAD_BYTES, PACKET_BYTES = 1448, 1500
"""Of a full segment: the kernel's rate is of the payload, a capacity is of packets."""

SENDERS: Final = {"cubic": Sender.CUBIC, "bbr": Sender.BBR}
"""The kernel's names (tcp_congestion_control) that the prediction has a model for."""


def sent_by_pair(
    flows: Iterable[Flow], book: AddressBook, services: Collection[ServicePort]
) -> dict[Pair, list[Flow]]:
    """Sort the flows of tagged services by who sends to whom, each once; what is no agent's is left out."""
    found: defaultdict[Pair, list[Flow]] = defaultdict(list)
    for flow in dict.fromkeys(flows):  # a batch that came twice
        peer = book.owner(flow.agent, flow.remote_address)
        if peer is not None and peer != flow.agent and _port(flow, peer) in services:
            found[flow.agent, peer].append(flow)
    return dict(found)


def _port(flow: Flow, peer: str) -> ServicePort | None:
    """Who listened, and where; None where the direction is not known."""
    listener = {Direction.IN: flow.agent, Direction.OUT: peer}.get(flow.direction)
    return None if listener is None else (listener, flow.service_port)


def recent(flows: Iterable[Flow], *, at_us: int, within_us: int) -> list[Flow]:
    """Keep the windows that ended in the last ``within_us``, and had begun at ``at_us``."""
    return [flow for flow in flows if flow.window_us <= at_us and at_us - ended_us(flow) <= within_us]


def ended_us(flow: Flow) -> int:
    """End of a flow's window."""
    return flow.window_us + flow.window_length_us


@dataclass(frozen=True)
class Sent:
    """The flows of one directed path, and what follows from them; none of it depends on their order."""

    flows: Sequence[Flow]
    rule: FusionRule = field(repr=False)

    @property
    def until_us(self) -> int:
        """End of the newest window; 0 without any."""
        return max(map(ended_us, self.flows), default=0)

    @property
    def sessions(self) -> int:
        """Sessions opened."""
        return sum(flow.opened for flow in self.flows)

    @cached_property
    def segments(self) -> int:
        """Segments with data, repeats included."""
        return sum(flow.segments_sent for flow in self.flows)

    @cached_property
    def rtt_min_us(self) -> int | None:
        """Least round trip; None where too few segments were sent to have met an empty path."""
        least = min((flow.rtt_min_us for flow in self.flows if flow.rtt_min_us is not None), default=None)
        return least if self.segments >= self.rule.least_segments else None

    @cached_property
    def rtt_counts(self) -> dict[int, int]:
        """Histogram of smoothed round trips that are the path's and not the flow's own queue."""
        told = (flow for flow in self.flows if not (self._is_queued(flow) and self._is_pushing(flow)))
        return dict(counts_of(flow.srtt_lasting_histogram for flow in told))

    @property
    def rtt_n(self) -> int:
        """Smoothed round trips in it."""
        return sum(self.rtt_counts.values())

    def rtt_us(self, part: float) -> int | None:
        """Percentile of them; ``part`` as 0.5 for the median."""
        return quantile(self.rtt_counts, part)

    @cached_property
    def loss(self) -> LossCount:
        """Segments lost of those sent while the queue was short; what the peer had already is not lost."""
        calm = [flow for flow in self.flows if flow.srtt_us is not None and not self._is_queued(flow)]
        again = sum(max(0, flow.segments_retransmitted - flow.dsack_duplicates) for flow in calm)
        sent = sum(flow.segments_sent for flow in calm)
        return LossCount(lost=min(again, sent), sent=sent)

    @cached_property
    def rate(self) -> tuple[int | None, CapacityTrust]:
        """Greatest rate, kbit/s at the IP layer: the path's where a queue stood, else at least so much."""
        full = (flow for flow in self.flows if self._is_queued(flow) and self._is_filling(flow))
        if (most := _greatest(full)) is not None:
            return most, CapacityTrust.MEASURED
        most = _greatest(self.flows)
        return most, CapacityTrust.NONE if most is None else CapacityTrust.AT_LEAST

    @cached_property
    def congestion(self) -> str:
        """Congestion control of the sending end; empty where it is not known, or not one alone."""
        names = {flow.congestion for flow in self.flows if flow.congestion and flow.segments_sent}
        return names.pop() if len(names) == 1 else ""

    @property
    def sender(self) -> Sender | None:
        """The same as the prediction knows it."""
        return SENDERS.get(self.congestion)

    @cached_property
    def _least_us(self) -> int | None:
        return min((flow.rtt_min_us for flow in self.flows if flow.rtt_min_us is not None), default=None)

    def _is_queued(self, flow: Flow) -> bool:
        """True where the round trip was well above the least one of the path."""
        if flow.srtt_us is None or self._least_us is None:
            return False
        return 100 * flow.srtt_us >= self.rule.queue_percent * self._least_us

    def _is_pushing(self, flow: Flow) -> bool:
        """True where the network, and neither program nor peer nor buffer, set the pace of the window."""
        held_us = flow.rwnd_limited_us + flow.sndbuf_limited_us
        return flow.delivery_kbps is not None and 100 * held_us < self.rule.held_percent * flow.busy_us

    def _is_filling(self, flow: Flow) -> bool:
        """True where one session at a time kept its rate for as long as it had something to send.

        Images one by one reach a rate for moments only, and of sessions side by side each has its share.
        """
        if not self._is_pushing(flow) or not 0 < flow.busy_us <= flow.window_length_us:
            return False
        mean_kbps = 8_000 * flow.bytes_sent / flow.busy_us
        return 100 * mean_kbps >= self.rule.filled_percent * (flow.delivery_kbps or 0)


def _greatest(flows: Iterable[Flow]) -> int | None:
    rates = [flow.delivery_kbps for flow in flows if flow.delivery_kbps is not None]
    return max(rates) * PACKET_BYTES // PAYLOAD_BYTES if rates else None
