"""What is measured of the mesh's accuracy: round trips, loss by direction, capacity, hops."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from lab.cables import CableState

from agent.mesh.probe import percentile
from analytics.measurement import Hop
from analytics.wire import ProbePlan
from benches import meters
from benches.bounds import off
from benches.capture import capture
from benches.chain import LEFT, RIGHT, Cable, Chain, chain, shape
from benches.errors import PartError
from benches.meters import Met, OneWay
from benches.pairs import pair_test
from benches.peers import PEERS, Pace, serving, tell
from benches.wire_truth import ways

OTHER_WAY: Final = {"up": "down", "down": "up"}
BACKGROUND: Final = 4
"""A loss test sends so many times fewer requests the other way. Answers to those share the lossy direction
and its counter, but not the product's count of lost requests: with as many, chance alone would now and then
put the two further apart than the interval."""
SHORT: Final = ProbePlan(probes=20, interval_us=5_000, hop_rounds=0, trains=1)


class Spread(NamedTuple):
    """The errors of one tool, and the truth that it met; all in us but the share."""

    error_p50: float
    error_p99: float
    p99_off: float  # the 99th percentile as told, minus the true one
    true_p50: float
    used_share: float


class Loss(NamedTuple):
    """What a tool said of a link that loses in one direction, and what the link counted."""

    there: OneWay  # in the direction that loses
    back: OneWay
    wire_packets: int
    wire_lost: int

    @property
    def told(self) -> float:
        """As a share."""
        return self.there.lost / self.there.sent

    @property
    def true(self) -> float:
        """As a share."""
        return self.wire_lost / self.wire_packets

    @property
    def off(self) -> float:
        """Up to 1 = within the binomial 95 % interval of the link's own count."""
        return off(self.there.lost, self.there.sent, self.wire_lost, self.wire_packets)


class Capacity(NamedTuple):
    """Several tests of one rate, both directions; None where one told nothing."""

    off_share: float | None  # of the median of a direction's tests, the worse direction
    worst_share: float | None  # of a single test in one direction
    sent_bytes: int  # in one direction, of the test that sent most: all it sent, not only its trains
    trust: list[str]


class HopsOff(NamedTuple):
    """How far hop to hop differences are from the links' delays, of the worst, in us."""

    least: float
    median: float


def spread(met: Met) -> Spread:
    """Reduce the round trips of a tool. Raises ``PartError`` if there are none."""
    if not met.compared:
        raise PartError("not one round trip was found on the network", remedy="run the bench again")
    errors = sorted(one.error_ns for one in met.compared)
    told = sorted(one.told_ns for one in met.compared)
    true = sorted(one.true_ns for one in met.compared)
    return Spread(
        error_p50=percentile(errors, 50) / 1e3,
        error_p99=percentile(errors, 99) / 1e3,
        p99_off=abs(percentile(told, 99) - percentile(true, 99)) / 1e3,
        true_p50=percentile(true, 50) / 1e3,
        used_share=met.used_share,
    )


def round_trips(made: Chain, pace: Pace) -> list[Spread]:
    """Let a and b test each other, hops and all; one spread an end."""
    plan = ProbePlan(probes=pace.count, interval_us=pace.interval_us, trains=0)
    with capture(made.near, LEFT) as near, capture(made.far, RIGHT) as far:
        a, b = pair_test(made, plan)
        passed = ways(near.end(), far.end())
    met = (meters.pathgrade(a, b, passed.up, passed.down), meters.pathgrade(b, a, passed.down, passed.up))
    return [spread(_as_told(one, told.reading.rtt_p99_us)) for one, told in zip(met, (a, b), strict=True)]


def _as_told(met: Met, p99_us: int | None) -> Met:
    """Check that the reading says the 99th percentile of these very round trips. Raises ``PartError``."""
    own_us = round(percentile(sorted(one.told_ns for one in met.compared), 99) / 1e3)
    if own_us != p99_us:
        raise PartError(
            f"a reading says p99 {p99_us} us, its round trips {own_us} us", remedy="mend the bench"
        )
    return met


def losses(folder: Path, way: str, ppm: int, pace: Pace) -> Loss:
    """Let the ends test each other over a link that loses in one direction."""
    with chain(folder, [_lossy(way, ppm)]) as made:
        before = made.state()
        most = ProbePlan(probes=pace.count, interval_us=pace.interval_us, hop_rounds=0, trains=0)
        few = ProbePlan(
            probes=pace.count // BACKGROUND,
            interval_us=pace.interval_us * BACKGROUND,
            hop_rounds=0,
            trains=0,
        )
        ends = pair_test(made, *((most, few) if way == "up" else (few, most)))
        counted = _counted(before, made.state(), way)
    readings = {"up": ends.a.reading, "down": ends.b.reading}
    told = {name: OneWay(one.sent, one.sent - (one.received or 0)) for name, one in readings.items()}
    return Loss(told[way], told[OTHER_WAY[way]], *counted)


def irtt_losses(folder: Path, way: str, ppm: int, pace: Pace) -> Loss:
    """Let irtt do the same."""
    peer = PEERS["irtt"]
    with chain(folder, [_lossy(way, ppm)]) as made, serving(peer, made):
        before = made.state()
        there, back = meters.irtt_losses(tell(peer, made, pace))
        counted = _counted(before, made.state(), way)
    told = {"up": there, "down": back}
    return Loss(told[way], told[OTHER_WAY[way]], *counted)


def _lossy(way: str, ppm: int) -> Cable:
    return Cable({f"{way}.loss_ppm": ppm, "up.delay_us": 1_000, "down.delay_us": 1_000}, seed=ppm)


def _counted(before: CableState, after: CableState, way: str) -> tuple[int, int]:
    """What went in and was lost; nothing may be lost in the other direction. Raises ``PartError``."""
    (first, last), (other_first, other_last) = (
        (getattr(before, name), getattr(after, name)) for name in (way, OTHER_WAY[way])
    )
    elsewhere = other_last.lost - other_first.lost + sum(one.queue_dropped for one in (last, other_last))
    if elsewhere:
        raise PartError(
            f"the cable lost {elsewhere} packets that it should not", remedy="run the bench again"
        )
    return last.packets - first.packets, last.lost - first.lost


def capacity(folder: Path, rate_kbps: int, tests: int) -> Capacity:
    """Measure a link of known rate a few times, both directions each time."""
    told, sent = [], []
    with chain(folder) as made:
        shape(made, rate_kbps)
        for _ in range(tests):
            before = _sent_bytes(made)
            told.append([end.reading for end in pair_test(made, SHORT)])
            sent += [late - early for early, late in zip(before, _sent_bytes(made), strict=True)]
    directions = [[one.capacity_kbps for one in direction] for direction in zip(*told, strict=True)]
    trust = sorted({str(one.capacity_trust) for both in told for one in both})
    return Capacity(*capacity_off(directions, rate_kbps), max(sent), trust)


def capacity_off(
    directions: Sequence[Sequence[int | None]], rate_kbps: int
) -> tuple[float | None, float | None]:
    """How far the median of a direction is off, of the worse one, and how far the worst single value."""
    known = [[one for one in direction if one is not None] for direction in directions]
    if sum(map(len, known)) < sum(map(len, directions)):
        return None, None
    middle = max(abs(median(one) / rate_kbps - 1) for one in known)
    return middle, max(abs(one / rate_kbps - 1) for direction in known for one in direction)


def _sent_bytes(made: Chain) -> tuple[int, int]:
    return made.sent_bytes(made.a, RIGHT), made.sent_bytes(made.b, LEFT)


def hops(folder: Path, delays_us: Sequence[tuple[int, int]], rounds: int) -> HopsOff:
    """Trace a chain of cables from both ends; their delays are (up, down)."""
    cables = [
        Cable({"up.delay_us": up, "down.delay_us": down}, seed) for seed, (up, down) in enumerate(delays_us)
    ]
    plan = ProbePlan(probes=20, interval_us=50_000, hop_rounds=rounds, trains=0)
    with chain(folder, cables) as made:
        a, b = pair_test(made, plan)
    legs = [0, *(up + down for up, down in delays_us), 0]
    return HopsOff(
        least=max(leg_off(a.hops, legs, "rtt_min_us"), leg_off(b.hops, legs[::-1], "rtt_min_us")),
        median=max(leg_off(a.hops, legs, "rtt_p50_us"), leg_off(b.hops, legs[::-1], "rtt_p50_us")),
    )


def leg_off(found: Sequence[Hop], legs_us: Sequence[int], column: str) -> float:
    """How far the difference of two successive hops is from the leg between them, of the worst.

    Raises ``PartError`` if a hop is missing or silent.
    """
    rtts: list[int | None] = [0, *(getattr(hop, column) for hop in found)]
    known = [rtt for rtt in rtts if rtt is not None]
    if len(known) != len(legs_us) + 1:
        raise PartError(f"{len(known) - 1} hops answered of {len(legs_us)}", remedy="run the bench again")
    differences = [far - near for near, far in pairwise(known)]
    return max(abs(one - leg) for one, leg in zip(differences, legs_us, strict=True))
