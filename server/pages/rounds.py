"""What the tests of a pair say while somebody watches: each is a round, as of mtr. Pure.

``Rounds.take`` takes in what the server says of the path; ``Rounds.seen`` gives it back with every hop's
numbers taken from all rounds. A round trip of a hop is never averaged over routes: a change of route begins
the counting of that direction anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from analytics.measurement import Hop, Reading, RouteChange
from analytics.report import PathDetail


@dataclass(slots=True)
class HopRounds:
    """One hop in all rounds of one route."""

    latest: Hop
    sent: int = 0
    answered: int = 0
    least_us: int | None = None
    most_us: int | None = None
    medians: list[tuple[int, int]] = field(default_factory=list)  # us, and how many answers it stands for

    def take(self, hop: Hop) -> None:
        """Take a round in; who does not answer this time keeps the address that answered before."""
        address = hop.address or self.latest.address
        self.latest = msgspec.structs.replace(hop, address=address)
        self.sent += hop.sent
        self.answered += hop.answered
        self.least_us = _least(self.least_us, hop.rtt_min_us)
        self.most_us = _most(self.most_us, hop.rtt_p95_us)
        if hop.rtt_p50_us is not None:
            self.medians.append((hop.rtt_p50_us, max(1, hop.answered)))

    def seen(self) -> Hop:
        """Give the hop with the numbers of all rounds.

        p50 is the weighted median of the rounds' medians, p95 the greatest of the rounds' p95.
        """
        return msgspec.structs.replace(
            self.latest,
            sent=self.sent,
            answered=self.answered,
            rtt_min_us=self.least_us,
            rtt_p50_us=weighted_median(self.medians),
            rtt_p95_us=self.most_us,
        )


@dataclass(slots=True)
class Way:
    """One direction."""

    tests: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    hops: dict[int, HopRounds] = field(default_factory=dict)
    route: str = ""
    changed_us: int | None = None  # when the route changed while it was watched

    def take(self, reading: Reading, hops: Sequence[Hop]) -> bool:
        """Take a test in; False where it was taken before."""
        if reading.test in self.tests | self.skipped:
            return False
        self.tests.add(reading.test)
        if self.route and reading.route_id != self.route and reading.route_change is RouteChange.CHANGED:
            self.hops.clear()
            self.changed_us = reading.ended_us
        self.route = reading.route_id or self.route
        for hop in hops:
            self.hops.setdefault(hop.ttl, HopRounds(hop)).take(hop)
        self._end_at([hop.ttl for hop in hops if hop.is_end])
        return True

    def _end_at(self, ends: Sequence[int]) -> None:
        """Forget what lies beyond the end, of a round in which the end was not seen as soon."""
        if ends:
            self.hops = {ttl: hop for ttl, hop in self.hops.items() if ttl <= min(ends)}

    def seen(self) -> list[Hop]:
        """The hops with the numbers of all rounds."""
        return [self.hops[ttl].seen() for ttl in sorted(self.hops)]


@dataclass(slots=True)
class Rounds:
    """Both directions."""

    forward: Way = field(default_factory=Way)
    back: Way = field(default_factory=Way)
    rtts_us: list[int | None] = field(default_factory=list)  # median of each; None = not reached

    @property
    def count(self) -> int:
        """Tests taken in."""
        return len(self.forward.tests)

    def take(self, detail: PathDetail) -> bool:
        """Take in what the server says; True where it is a test that was not known."""
        is_new = self.forward.take(detail.forward_reading, detail.forward_hops)
        if is_new:
            self.rtts_us.append(detail.forward_reading.rtt_p50_us)
        if detail.back_reading is not None:
            self.back.take(detail.back_reading, detail.back_hops)
        return is_new

    def skip(self, detail: PathDetail) -> None:
        """Leave out what was measured before anybody watched."""
        for way, reading in ((self.forward, detail.forward_reading), (self.back, detail.back_reading)):
            if reading is not None:
                way.skipped.add(reading.test)

    def seen(self, detail: PathDetail) -> PathDetail:
        """The latest with the hops of all rounds."""
        return msgspec.structs.replace(
            detail, forward_hops=self.forward.seen(), back_hops=self.back.seen() or detail.back_hops
        )


def weighted_median(values: Iterable[tuple[int, int]]) -> int | None:
    """Give the least value at which half of the weight is reached; None of nothing."""
    ordered = sorted(values)
    half, reached = sum(weight for _, weight in ordered) / 2, 0
    for value, weight in ordered:
        reached += weight
        if reached >= half:
            return value
    return None


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)


def _most(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
