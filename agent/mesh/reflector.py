"""Answers the peer's probes, counts them, and tells when the kernel really sent each answer.

The kernel's stamp of an answer is known only after the answer left. So it travels later: every reply carries
two, those not told yet first, else the last one a second time, because the reply that told it may be lost.
What the asker still lacks at the end it asks for by number (``Finished``), so a host that was held up for
long loses no sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Final

from agent.mesh.packet import FLAG_KERNEL_RECEIVED, MOST_TOLD, NO_STAMP, Counters, Kind, Probe, SentStamp
from agent.mesh.stamps import Arrival, OnSent
from agent.mesh.times import Clock

MOST_SEQUENCE: Final = 16_384
"""A plan has at most 10,000 probes, and a few under load: a peer that counts on wants our memory."""


class Stamps:
    """The kernel's send stamps of our replies, and which the peer was told."""

    def __init__(self) -> None:
        self._sent_ns: dict[int, int] = {}
        self._untold: deque[SentStamp] = deque()
        self._last_told = NO_STAMP

    def add(self, stamp: SentStamp) -> None:
        """Take the stamp of a reply that has left."""
        self._sent_ns[stamp.sequence] = stamp.sent_ns
        self._untold.append(stamp)

    def tell(self) -> tuple[SentStamp, SentStamp]:
        """Choose the two that the next reply carries."""
        last, first = self._last_told, self._next()
        return (first, self._next() if self._untold else last) if first is not NO_STAMP else (last, NO_STAMP)

    def named(self, sequences: Sequence[int]) -> list[tuple[int, int]]:
        """(sequence, ns) of those that the peer asks for, as far as the kernel gave a stamp."""
        return [(n, self._sent_ns[n]) for n in sequences if n in self._sent_ns][:MOST_TOLD]

    def _next(self) -> SentStamp:
        if not self._untold:
            return NO_STAMP
        self._last_told = self._untold.popleft()
        return self._last_told


class Reflector:
    """Answers the peer's requests and counts them."""

    def __init__(self, clock: Clock) -> None:
        self.duplicated = 0
        self.reordered = 0
        self.refused = 0
        self._clock = clock
        self._seen: set[int] = set()
        self._expected = 1  # RFC 4737 section 3.3: NextExp
        self._stamps = Stamps()

    @property
    def received(self) -> int:
        """Different requests so far."""
        return len(self._seen)

    def on_request(
        self, request: Probe, arrival: Arrival, *, copy: bool = False
    ) -> tuple[Probe, OnSent] | None:
        """Count a request; the reply, and whom to tell its kernel stamp. None for one that gets no reply."""
        if request.sequence > MOST_SEQUENCE:
            self.refused += 1
            return None
        if copy or request.sequence in self._seen:
            self.duplicated += 1
            return None
        self._seen.add(request.sequence)
        self.reordered += request.sequence < self._expected
        self._expected = max(self._expected, request.sequence + 1)
        return self._reply(request, arrival)

    def counters(self, sent: int, lacking: Sequence[int] = ()) -> Counters:
        """What arrived of the peer's first ``sent`` requests, and the stamps it lacks."""
        runs = loss_runs(self._seen, sent)
        return Counters(
            received=sum(sequence <= sent for sequence in self._seen),
            duplicated=self.duplicated,
            reordered=self.reordered,
            earlier=self._stamps.named(lacking),
            bursts=len(runs),
            runs=_longest(runs),
        )

    def _reply(self, request: Probe, arrival: Arrival) -> tuple[Probe, OnSent]:
        def on_sent(stamp_ns: int) -> None:
            self._stamps.add(SentStamp(request.sequence, stamp_ns))

        reply = Probe(
            Kind.REPLY,
            request.sequence,
            sent_ns=self._clock.wall_ns(),
            received_ns=arrival.received_ns,
            flags=FLAG_KERNEL_RECEIVED if arrival.kernel else 0,
            earlier=self._stamps.tell(),
        )
        return reply, on_sent


def loss_runs(seen: Collection[int], sent: int) -> list[tuple[int, int]]:
    """(first, length) of every run of sequences up to ``sent`` not seen: the loss periods of RFC 3357."""
    runs, expected = [], 1
    for sequence in [*sorted(n for n in seen if n <= sent), sent + 1]:
        if sequence > expected:
            runs.append((expected, sequence - expected))
        expected = sequence + 1
    return runs


def _longest(runs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """As many as one message holds, in their order."""
    return sorted(sorted(runs, key=lambda run: -run[1])[:MOST_TOLD])
