"""READ FIRST: how accurate the mesh's numbers are, beside ping, irtt and sockperf on the same links.

Each figure is compared with what the network did, not with what it was set to. Four parts::

    round trips   quiet, then all cores busy: every packet's time between two captures at the network's edges
    loss          in one direction only: the emulated cable's own counters
    capacity      a router that lets out so many bits a second (tbf)
    hops          cables of known delay in a row

pathgrade's own ``test_pair`` runs between two processes in namespaces; one tool runs after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from benches import accuracy_measures as measures
from benches.accuracy_measures import Loss, Spread
from benches.bench import Bench, Report, Say
from benches.busy import busy
from benches.chain import Cable, Chain, chain
from benches.errors import BenchError, NeedsError
from benches.figures import Cell, Factor, Figure, Target, number, percent, times
from benches.peers import PEERS, Pace, Peer, met, refusal

JUDGED: Final = "pathgrade"
TO_BEST: Final = "to_best"
HEADINGS: Final = {
    JUDGED: "pathgrade",
    **{name: name for name in PEERS},
    TO_BEST: "to best peer",
}
"""Tool -> how it is called in the table; last, how many times the best peer's figure pathgrade's is."""

LINE: Final = Cable({"up.delay_us": 150, "up.jitter_us": 50, "down.delay_us": 150, "down.jitter_us": 50})
"""Below 1 ms both ways: beyond, ping rounds to 10 us."""
LOSSES: Final = ((1_000, "up"), (10_000, "down"), (50_000, "up"))  # per million, in one direction only
RATES_KBPS: Final = {10_000: 0.02, 50_000: 0.02, 100_000: 0.02, 1_000_000: 0.05}  # and how far off is allowed
LEGS_US: Final = ((1_000, 1_000), (3_000, 5_000), (12_000, 8_000))  # of each cable, up and down
MOST_BYTES: Final = 250_000
TUN: Final = Path("/dev/net/tun")
LOADS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {"quiet": nullcontext, "busy": busy}


def _hundredths(value: float) -> str:
    return f"{value * 100:.2f} %"


def _loss_figures(ppm: int, way: str) -> tuple[Figure, ...]:
    words = f"loss {ppm / 1e4:g} % {'a to b' if way == 'up' else 'b to a'}"
    return (
        Figure(f"loss_{ppm}_told", f"{words}: as told", _hundredths),
        Figure(f"loss_{ppm}_true", f"{words}: on the wire", _hundredths),
        Figure(
            f"loss_{ppm}_off", f"{words}: off, of its 95 % interval", number(2, ""), Target(1.0, timed=False)
        ),
    )


def _capacity_figures(rate_kbps: int, allowed: float) -> tuple[Figure, ...]:
    words = f"capacity {rate_kbps // 1000} Mbit/s: off"
    return (
        Figure(f"capacity_{rate_kbps}", words, _hundredths, Target(allowed)),
        Figure(f"capacity_{rate_kbps}_worst", "same, worst single test", _hundredths),
    )


FIGURES: Final = (
    Figure("quiet_p99", "RTT error p99, quiet", number(1, "us"), Target(20)),
    Figure("busy_p99", "RTT error p99, all cores busy", number(1, "us"), Target(50)),
    Figure("busy_to_best", "same, to the best peer's", times, Target(1.0)),
    Figure("quiet_p50", "RTT error p50, quiet", number(1, "us")),
    Figure("busy_p50", "RTT error p50, busy", number(1, "us")),
    Figure("quiet_p99_off", "p99 of RTT told, off the true p99, quiet", number(1, "us"), Target(20)),
    Figure("busy_p99_off", "same, busy", number(1, "us"), Target(50)),
    Figure("quiet_true", "true RTT p50, quiet", number(0, "us")),
    Figure("busy_true", "true RTT p50, busy", number(0, "us")),
    Figure("quiet_used", "round trips told, of requests, quiet", percent),
    Figure("busy_used", "same, busy", percent),
    *(figure for ppm, way in LOSSES for figure in _loss_figures(ppm, way)),
    Figure("loss_other", "lost the other way, as told, in all", number(0, ""), Target(0, timed=False)),
    *(figure for rate, allowed in RATES_KBPS.items() for figure in _capacity_figures(rate, allowed)),
    Figure("sent_kb", "sent in one direction by a test of it", number(0, "kB"), Target(MOST_BYTES / 1000)),
    Figure("hops_least", "hop to hop, least RTT: off the leg", number(3, "ms"), Target(0.3)),
    Figure("hops_median", "hop to hop, median RTT: off the leg", number(3, "ms"), Target(0.3)),
)
COMPARED: Final = ("quiet_p99", "busy_p99", "quiet_p50", "busy_p50", "quiet_p99_off", "busy_p99_off")
"""What all tools have, the less the better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of each."""

    round_trips: Pace
    losses: Mapping[int, Pace]  # by loss per million
    capacity_tests: int
    hop_rounds: int


FULL: Final = Plan(
    round_trips=Pace(800, 10_000),
    losses={1_000: Pace(4_000, 5_000), 10_000: Pace(2_000, 5_000), 50_000: Pace(1_200, 5_000)},
    capacity_tests=5,
    hop_rounds=6,
)
QUICK: Final = Plan(
    round_trips=Pace(100, 10_000),
    losses={1_000: Pace(400, 5_000), 10_000: Pace(400, 5_000), 50_000: Pace(400, 5_000)},
    capacity_tests=1,
    hop_rounds=2,
)
Cells = dict[str, dict[str, Cell]]


@dataclass(slots=True)
class _Run:
    """One run of the bench: what is known so far."""

    plan: Plan
    folder: Path
    say: Say
    cells: Cells = field(default_factory=lambda: {column: {} for column in HEADINGS})
    refused: set[str] = field(default_factory=set)
    details: list[str] = field(default_factory=list)

    def measure(self) -> None:
        """Measure everything, under five minutes for the full plan. Raises ``BenchError``."""
        for name, peer in PEERS.items():
            if reason := refusal(peer):
                self._refuse(name, reason)
        with chain(self.folder, [LINE]) as made:
            for load, making in LOADS.items():
                with making():
                    self._round_trips(made, load)
        self._losses()
        self._capacity()
        self._hops()

    def _round_trips(self, made: Chain, load: str) -> None:
        pace = self.plan.round_trips
        self.say(f"round trips, {load}: {pace.count} of each tool")
        ends = measures.round_trips(made, pace)
        self.cells[JUDGED] |= spread_cells(load, ends)
        for name, peer in PEERS.items():
            self._of_peer(name, partial(_peer_spread, load, peer, made, pace))

    def _losses(self) -> None:
        other = {JUDGED: 0, "irtt": 0}
        for ppm, way in LOSSES:
            pace = self.plan.losses[ppm]
            self.say(f"loss of {ppm / 1e4:g} % {way}: {pace.count} requests")
            found = measures.losses(self.folder, way, ppm, pace)
            self.cells[JUDGED] |= loss_cells(ppm, found)
            other[JUDGED] += found.back.lost
            self._of_peer("irtt", partial(self._irtt_losses, ppm, way, pace, other))
        self.cells[JUDGED]["loss_other"] = other[JUDGED]
        if "irtt" not in self.refused:
            self.cells["irtt"]["loss_other"] = other["irtt"]

    def _irtt_losses(self, ppm: int, way: str, pace: Pace, other: dict[str, int]) -> dict[str, Cell]:
        found = measures.irtt_losses(self.folder, way, ppm, pace)
        other["irtt"] += found.back.lost
        return loss_cells(ppm, found)

    def _capacity(self) -> None:
        most = 0
        for rate_kbps in RATES_KBPS:
            self.say(f"capacity of {rate_kbps // 1000} Mbit/s")
            found = measures.capacity(self.folder, rate_kbps, self.plan.capacity_tests)
            self.cells[JUDGED][f"capacity_{rate_kbps}"] = found.off_share
            self.cells[JUDGED][f"capacity_{rate_kbps}_worst"] = found.worst_share
            self.details.append(f"capacity {rate_kbps // 1000} Mbit/s is told as {', '.join(found.trust)}")
            most = max(most, found.sent_bytes)
        self.cells[JUDGED]["sent_kb"] = most / 1000

    def _hops(self) -> None:
        self.say(f"hops: {len(LEGS_US)} cables in a row, from both ends")
        found = measures.hops(self.folder, LEGS_US, self.plan.hop_rounds)
        self.cells[JUDGED] |= {"hops_least": found.least / 1000, "hops_median": found.median / 1000}

    def _of_peer(self, name: str, measure: Callable[[], dict[str, Cell]]) -> None:
        """Take a peer's figures, or the reason why there are none: that is no end of the bench."""
        if name in self.refused:
            return
        try:
            self.cells[name] |= measure()
        except BenchError as error:
            self._refuse(name, str(error))

    def _refuse(self, name: str, reason: str) -> None:
        self.refused.add(name)
        reasons: dict[str, Cell] = {figure.key: reason for figure in FIGURES}
        self.cells[name] = reasons | self.cells[name]


def _peer_spread(load: str, peer: Peer, made: Chain, pace: Pace) -> dict[str, Cell]:
    return spread_cells(load, [measures.spread(met(peer, made, pace))])


def spread_cells(load: str, ends: Sequence[Spread]) -> dict[str, Cell]:
    """Tell the worse of the ends."""
    return {
        f"{load}_p99": max(one.error_p99 for one in ends),
        f"{load}_p50": max(one.error_p50 for one in ends),
        f"{load}_p99_off": max(one.p99_off for one in ends),
        f"{load}_true": max(one.true_p50 for one in ends),
        f"{load}_used": min(one.used_share for one in ends),
    }


def loss_cells(ppm: int, found: Loss) -> dict[str, Cell]:
    """Tell what was told, what was, and how far they are apart."""
    return {
        f"loss_{ppm}_told": found.told,
        f"loss_{ppm}_true": found.true,
        f"loss_{ppm}_off": found.off,
    }


def to_best(cells: Mapping[str, Mapping[str, Cell]]) -> dict[str, Cell]:
    """How many times the best peer's each of pathgrade's figures is, where they have it in common."""
    found: dict[str, Cell] = {}
    for key in COMPARED:
        peers = [value for name in PEERS if isinstance(value := cells[name].get(key), float)]
        own = cells[JUDGED].get(key)
        if peers and isinstance(own, float) and min(peers) > 0:
            found[key] = Factor(own / min(peers))
    return found


def _measure(quick: bool, folder: Path, say: Say) -> Report:
    for end in ("a", "b"):
        (folder / end).mkdir()  # for its identity
    run = _Run(QUICK if quick else FULL, folder, say)
    run.measure()
    run.cells[TO_BEST] = to_best(run.cells)
    best = run.cells[TO_BEST].get("busy_p99")
    run.cells[JUDGED]["busy_to_best"] = best.times if isinstance(best, Factor) else None
    return Report(run.cells, [*run.details, *EXPLAINED], {})


EXPLAINED: Final = (
    "ping and sockperf cannot tell the directions of a loss; none of the peers measures capacity or hops.",
    "loss off: 0 = the same rate as on the wire, up to 1 = within the binomial 95 % interval of its counters",
)


def _needs() -> None:
    if not TUN.exists():
        raise NeedsError(f"there is no {TUN}", remedy="modprobe tun")


BENCH: Final = Bench(
    name="accuracy",
    words="the mesh's numbers against the truth, beside ping, irtt and sockperf",
    description=__doc__.partition(": ")[2],
    figures=FIGURES,
    headings=HEADINGS,
    judged=JUDGED,
    needs=_needs,
    measure=_measure,
)
