"""One row in the making: sums, histograms and medians over the sessions of one process with one service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import add, attrgetter, sub
from typing import Any, Final, NamedTuple, Self

from agent.passive.columns import Columns
from analytics import histogram
from ebpf.events import NOT_MEASURED_U32, Opener, Reset, SessionEvent

LEAST_RATE_SEGMENTS: Final = 10
"""An initial window (RFC 6928): over fewer, a rate tells how often the application spoke."""

LASTING_NS: Final = 500_000_000
"""A session that lasted as long has a round trip of its own, and not just that of its handshake."""

_MOST_SAMPLES: Final = 1024
_SENT, _RECEIVED = int(Reset.SENT), int(Reset.RECEIVED)
_bucket = lru_cache(maxsize=4096)(histogram.bucket)

_PLAIN: Final = (
    "bytes_retransmitted",
    "data_segments_sent",
    "retransmitted",
    "dsack_duplicates",
    "reordering_seen",
    "busy_us",
    "rwnd_limited_us",
    "sndbuf_limited_us",
)
"""Fields of the record that are summed as they are; ``Done`` has them in this order."""

_TOTALS: Final = (
    "opened",
    "closed",
    "failed",
    "guessed",
    "resets_sent",
    "resets_received",
    "duration_us",
    "rtt_min_us",
    "delivery_kbps",
)
"""Sums of a tally that ``Flow`` has by the same name."""

_plain = attrgetter(*_PLAIN)


class Done(NamedTuple):
    """What only grows in the life of a session, named as in ``Flow``."""

    bytes_sent: int
    bytes_received: int
    bytes_retransmitted: int
    segments_sent: int
    segments_retransmitted: int
    dsack_duplicates: int
    reordering_seen: int
    busy_us: int
    rwnd_limited_us: int
    sndbuf_limited_us: int

    @classmethod
    def by(cls, event: SessionEvent) -> Self:
        """Tell what a session did in its whole life."""
        return cls(event.payload_acked, event.payload_received, *_plain(event))

    @classmethod
    def by_all(cls, sessions: Columns, opener: int) -> Self:
        """Sum it up over many established sessions of one opener."""
        acked = sessions("bytes_acked")
        # As SessionEvent.payload_acked: a SYN that this host sent counts as a byte, and so does each FIN.
        syns = len(acked) if opener == Opener.LOCAL else 0
        sent = sum(acked) - syns - sum(sessions("fin_acked"))
        received = sum(sessions("bytes_received")) - sum(sessions("fin_received"))
        return cls(sent, received, *[sum(sessions(name)) for name in _PLAIN])

    def since(self, before: Done) -> Done:
        """What was added; never below zero, should the kernel take a counter back."""
        if before is NOTHING:
            return self
        return Done._make([max(0, more) for more in map(sub, self, before)])


NOTHING: Final = Done(*[0] * len(Done._fields))


class Sample:
    """Values for a median. Past a thousand every second one is left out, evenly over time."""

    def __init__(self) -> None:
        self._values: list[int] = []
        self._every = 1
        self._offered = 0

    def part(self, count: int) -> slice:
        """Tell which of the next ``count`` values to ``add``."""
        chosen = slice(-self._offered % self._every, None, self._every)
        self._offered += count
        return chosen

    def add(self, values: Iterable[int]) -> None:
        """Keep them."""
        self._values.extend(values)
        while len(self._values) > _MOST_SAMPLES:
            self._values = self._values[::2]
            self._every *= 2

    def median(self) -> int | None:
        """Give the lower median; None without values."""
        ordered = sorted(self._values)
        return ordered[(len(ordered) - 1) // 2] if ordered else None


@dataclass(slots=True, eq=False)
class Tally:
    """A row's sums so far. The ``add_`` methods take any number of sessions at once, but at least one."""

    pid: int = 0
    opened: int = 0
    closed: int = 0
    failed: int = 0
    guessed: int = 0
    resets_sent: int = 0
    resets_received: int = 0
    duration_us: int = 0
    done: Done = NOTHING
    rtt_min_us: int | None = None
    delivery_kbps: int | None = None
    congestion: bytes = b""
    srtts: dict[int, int] = field(default_factory=dict)
    lasting_srtts: dict[int, int] = field(default_factory=dict)
    srtts_us: Sample = field(default_factory=Sample)
    connects_us: Sample = field(default_factory=Sample)

    def totals(self) -> dict[str, Any]:
        """Give the plain sums, named as in ``Flow``."""
        sums = {name: max(0, total) for name, total in self.done._asdict().items()}
        return sums | {name: getattr(self, name) for name in _TOTALS}

    def add_done(self, done: Done) -> None:
        """Add what sessions did since they were last told."""
        self.done = Done._make(map(add, self.done, done))

    def add_opened(self, sessions: Columns) -> None:
        """Add sessions that are told for the first time."""
        begun = sessions("syn_ns")
        self.opened += len(begun)
        chosen = self.connects_us.part(len(begun))
        pairs = zip(begun[chosen], sessions("established_ns")[chosen], strict=True)
        self.connects_us.add((answered - syn) // 1000 for syn, answered in pairs if syn and answered)

    def add_closed(self, sessions: Columns) -> None:
        """Add sessions that ended."""
        resets = sessions("reset")
        self.closed += len(resets)
        if any(resets):
            self.resets_sent += sum(reset & _SENT != 0 for reset in resets)
            self.resets_received += sum(reset & _RECEIVED != 0 for reset in resets)

    def add_durations(self, sessions: Columns) -> None:
        """Add the lives of sessions that ended and were seen from their beginning."""
        self.duration_us += (sum(sessions("at_ns")) - sum(sessions("first_seen_ns"))) // 1000

    def add_path(self, sessions: Columns) -> None:
        """Add what the sessions' own segments found out about the path."""
        srtts = sessions("srtt_us")
        _count(self.srtts, srtts)
        if lasting := _of_lasting(sessions, srtts):
            _count(self.lasting_srtts, lasting)
        self.srtts_us.add(filter(None, srtts[self.srtts_us.part(len(srtts))]))
        least = min(sessions("min_rtt_us"))
        if least != NOT_MEASURED_U32:
            self.rtt_min_us = least if self.rtt_min_us is None else min(self.rtt_min_us, least)
        rate = _greatest_rate(sessions)
        if rate is not None:
            self.delivery_kbps = max(self.delivery_kbps or 0, rate * 8 // 1000)


def _count(counts: dict[int, int], srtts_us: Iterable[int]) -> None:
    """Add to a histogram the round trips that were measured."""
    for value, times in Counter(srtts_us).items():
        if value:
            number = _bucket(value)
            counts[number] = counts.get(number, 0) + times


def _of_lasting(sessions: Columns, values: Sequence[int]) -> Sequence[int]:
    """Leave of ``values`` those of sessions that lasted ``LASTING_NS``."""
    begun, told = sessions("first_seen_ns"), sessions("at_ns")
    if max(told) - min(begun) < LASTING_NS:  # most often, as many short ones are told at once
        return ()
    lives = zip(values, begun, told, strict=True)
    return [value for value, start, end in lives if end - start >= LASTING_NS]


def _greatest_rate(sessions: Columns) -> int | None:
    """Bytes per second as SessionEvent.delivery_bytes_per_s has them, where the application did not limit."""
    delivered = sessions("rate_delivered")
    if max(delivered) < LEAST_RATE_SEGMENTS:
        return None
    names = ("rate_interval_us", "mss", "app_limited")
    rows = zip(delivered, *map(sessions, names), strict=True)
    return max(
        (
            segments * mss * 1_000_000 // interval_us
            for segments, interval_us, mss, limited in rows
            if segments >= LEAST_RATE_SEGMENTS and interval_us and not limited
        ),
        default=None,
    )
