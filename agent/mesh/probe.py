"""Requests of this end and what came back: round trips on kernel stamps.

The peer answers and counts them (``reflector``). A round trip is (T4 - T1) - (T3 - T2), RFC 8762 section 4.1:
T1, T4 by the sender's clock, T2, T3 by the reflector's, so clock offset cancels. All four are the kernel's
where the kernel stamps the socket; then this process may be late without harm. Where a stamp is the process's
own, a round trip during which the process was late is *spoiled*, and left out and counted:

* a send that took longer than ``LATE_SEND_NS`` while T1 is not the kernel's;
* a pacing timer later than ``LATE_TIMER_NS`` while T4 is not the kernel's (a relay over TCP);
* a step of a wall clock at either end between T1 and T4, whatever the stamps.

Pure but for ``run``: bytes and times in, bytes and numbers out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from agent.mesh.packet import FLAG_KERNEL_RECEIVED, MOST_TOLD, Kind, Probe, SentStamp
from agent.mesh.stamps import Arrival, OnSent
from agent.mesh.times import Clock
from analytics.measurement import StampSource
from analytics.wire import ProbePlan

LATE_SEND_NS: Final = 1_000_000
LATE_TIMER_NS: Final = 5_000_000
CLOCK_STEP_NS: Final = 1_000_000  # a clock that is slewed (500 ppm) moves half of it in a second
OFFSET_TRIES: Final = 3
MOST_REFLECTING_NS: Final = 1_000_000_000
SETTLE_LEAST_S: Final = 0.2
SETTLE_MOST_S: Final = 2.0
PERCENTILES: Final = (10, 25, 50, 75, 90, 95, 99)


@dataclass(slots=True)
class RoundTrip:
    """The stamps of one request and its reply, in ns; 0 = not known."""

    t1_process: int
    clock_offset: int  # wall minus monotonic when it was sent
    t1_kernel: int = 0
    t2: int = 0
    t3_process: int = 0
    t3_kernel: int = 0
    t4: int = 0
    kernel_received: bool = False  # T2 and T4 are the kernel's
    spoiled: bool = False

    @property
    def t1(self) -> int:
        """The better stamp there is."""
        return self.t1_kernel or self.t1_process

    @property
    def t3(self) -> int:
        """The better stamp there is."""
        return self.t3_kernel or self.t3_process

    @property
    def kernel(self) -> bool:
        """True if all four stamps are the kernel's."""
        return bool(self.kernel_received and self.t1_kernel and self.t3_kernel)

    @property
    def good(self) -> bool:
        """True if the reply came and nothing spoiled the round trip."""
        return bool(self.t4) and not self.spoiled and self.rtt_ns >= 0

    @property
    def rtt_ns(self) -> int:
        """Time on the network, both ways."""
        return (self.t4 - self.t1) - (self.t3 - self.t2)


@dataclass(frozen=True, slots=True)
class RttSummary:
    """What the round trips of one test say; microseconds."""

    n: int = 0
    spoiled: int = 0
    stamps: StampSource = StampSource.USER
    min_us: int | None = None
    percentiles_us: dict[int, int] = field(default_factory=dict)
    ipdv_us: int | None = None


class Requester:
    """Requests of this end and what came back."""

    def __init__(self, clock: Clock) -> None:
        self.timers_late_ns: list[int] = []  # of every pacing timer: actual minus due
        self._clock = clock
        self._trips: list[RoundTrip] = []  # sequence n at index n - 1

    @property
    def sent(self) -> int:
        """Requests sent so far."""
        return len(self._trips)

    @property
    def answered(self) -> int:
        """Requests that a reply came to."""
        return sum(trip.t4 != 0 for trip in self._trips)

    @property
    def trips(self) -> Sequence[RoundTrip]:
        """All of them, in the order sent."""
        return self._trips

    @property
    def lacking(self) -> list[int]:
        """Replies that only lack the kernel's T3, as many as one message can ask for."""
        return [
            sequence
            for sequence, trip in enumerate(self._trips, 1)
            if trip.good and trip.t1_kernel and trip.kernel_received and not trip.t3_kernel
        ][:MOST_TOLD]

    @property
    def greatest_rtt_ns(self) -> int:
        """Of the round trips so far; 0 if there are none."""
        return max((trip.rtt_ns for trip in self._trips if trip.t4), default=0)

    def request(self, *, timer_late_ns: int = 0) -> tuple[Probe, OnSent]:
        """The next request, and whom to tell its kernel stamp."""
        self.timers_late_ns.append(timer_late_ns)
        now_ns = self._clock.wall_ns()
        trip = RoundTrip(now_ns, self._offset())
        self._trips.append(trip)

        def on_sent(stamp_ns: int) -> None:
            trip.t1_kernel = stamp_ns

        return Probe(Kind.REQUEST, len(self._trips), now_ns), on_sent

    def request_left(self, sequence: int) -> None:
        """The send call of a request has returned."""
        trip = self._trips[sequence - 1]
        if not trip.t1_kernel and self._clock.wall_ns() - trip.t1_process > LATE_SEND_NS:
            trip.spoiled = True

    def on_reply(self, reply: Probe, arrival: Arrival) -> bool:
        """Take a reply; False if it is not to one of our requests."""
        self.on_earlier(reply.earlier)
        if reply.sequence > len(self._trips):
            return False
        trip = self._trips[reply.sequence - 1]
        if trip.t4:
            return True  # a duplicate on the way back
        trip.t2, trip.t3_process, trip.t4 = reply.received_ns, reply.sent_ns, arrival.received_ns
        trip.kernel_received = arrival.kernel and bool(reply.flags & FLAG_KERNEL_RECEIVED)
        trip.spoiled |= self._is_spoiled(trip, arrival)
        return True

    def on_earlier(self, stamps: Iterable[SentStamp]) -> None:
        """Take the kernel's stamps of earlier replies."""
        for stamp in stamps:
            self._on_stamp(stamp)

    def summary(self) -> RttSummary:
        """Reduce the round trips; all of the kernel's stamps if at least half of them are."""
        back = [trip for trip in self._trips if trip.t4]
        good = [trip for trip in back if trip.good]
        in_kernel = [trip for trip in good if trip.kernel]
        kernel = 2 * len(in_kernel) >= len(good) and bool(in_kernel)
        used = in_kernel if kernel else good
        spoiled = len(back) - len(good)
        if not used:
            return RttSummary(spoiled=spoiled)
        ordered = sorted(trip.rtt_ns for trip in used)
        return RttSummary(
            n=len(ordered),
            spoiled=spoiled,
            stamps=StampSource.KERNEL if kernel else StampSource.USER,
            min_us=_us(ordered[0]),
            percentiles_us={percent: _us(percentile(ordered, percent)) for percent in PERCENTILES},
            ipdv_us=self._ipdv_us(set(map(id, used))),
        )

    def _ipdv_us(self, used: set[int]) -> int | None:
        """Mean |difference| of the one-way delays of successive requests (RFC 3393)."""
        both = [(a, b) for a, b in pairwise(self._trips) if id(a) in used and id(b) in used]
        steps = [step for a, b in both if (step := _delay_step_ns(a, b)) is not None]
        return _us(sum(steps) / len(steps)) if steps else None

    def _on_stamp(self, stamp: SentStamp) -> None:
        if 0 < stamp.sequence <= len(self._trips):
            trip = self._trips[stamp.sequence - 1]
            # A stamp before the process's own belongs to another packet.
            if trip.t4 and trip.t3_process <= stamp.sent_ns < trip.t3_process + MOST_REFLECTING_NS:
                trip.t3_kernel = stamp.sent_ns

    def _is_spoiled(self, trip: RoundTrip, arrival: Arrival) -> bool:
        own_step = abs(self._offset() - trip.clock_offset) > CLOCK_STEP_NS
        peer_step = not 0 <= trip.t3_process - trip.t2 <= MOST_REFLECTING_NS
        late = not arrival.kernel and self.timers_late_ns[-1] > LATE_TIMER_NS
        return own_step or peer_step or late

    def _offset(self) -> int:
        """Wall minus monotonic; read again where this process was held up in between: that is no step."""
        for _ in range(OFFSET_TRIES):
            before_ns = self._clock.monotonic_ns()
            offset_ns = self._clock.wall_ns() - before_ns
            if self._clock.monotonic_ns() - before_ns < CLOCK_STEP_NS // 4:
                break
        return offset_ns


async def run(
    requester: Requester,
    plan: ProbePlan,
    send: Callable[[Probe, OnSent], bool],
    loop_time: Callable[[], float],
) -> None:
    """Send the plan's requests at its pace, then wait for the last replies."""
    await paced(requester, plan.probes, plan.interval_us / 1e6, send, loop_time)
    if requester.answered < requester.sent:
        longest_s = 3 * requester.greatest_rtt_ns / 1e9
        await asyncio.sleep(min(max(SETTLE_LEAST_S, longest_s), SETTLE_MOST_S))


async def paced(
    requester: Requester,
    probes: int,
    interval_s: float,
    send: Callable[[Probe, OnSent], bool],
    loop_time: Callable[[], float],
) -> None:
    """Send requests evenly, the first one at once; each notes how late its timer was."""
    begin_s = loop_time()
    for index in range(probes):
        due_s = begin_s + index * interval_s
        await asyncio.sleep(max(0.0, due_s - loop_time()))
        request, on_sent = requester.request(timer_late_ns=round((loop_time() - due_s) * 1e9))
        send(request, on_sent)
        requester.request_left(request.sequence)


def percentile(ordered: Sequence[int], percent: int) -> int:
    """Nearest rank; ``ordered`` is not empty."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _delay_step_ns(a: RoundTrip, b: RoundTrip) -> int | None:
    """How far two one-way delays are apart; None if only a clock that was stepped in between can say so.

    A one-way delay is part of its round trip, so two of them differ by no more than the longer one.
    """
    step = abs((b.t2 - b.t1) - (a.t2 - a.t1))
    return step if step <= max(a.rtt_ns, b.rtt_ns) + CLOCK_STEP_NS else None


def _us(ns: float) -> int:
    return round(ns / 1000)
