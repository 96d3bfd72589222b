"""A watched pair, simulated: the product's own pace (``server.watching``) and judge (``analytics.watched``).

Tests last as long as real ones, their readings arrive two seconds later, and one time in five a test waits
for another one on its site. A test of the cycle, in full, comes every five minutes. The purse is not
simulated: an agent with one watched pair can pay for what a change asks for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec

from analytics import loss_change
from analytics.baseline import Baseline, Sample, baseline
from analytics.detect import history
from analytics.loss_change import NO_LOSS
from analytics.measurement import CapacityTrust, Letter, Reading, Rung
from analytics.rules.load import Rules, load_rules
from analytics.watched import SAMPLES_PER_TEST, PairWatch
from analytics.wire import ProbePlan, TestEnded
from benches.noise import DAY_S, Level, lost
from server.budget import cost_of, depths
from server.watching import Pace

US: Final = 1_000_000
BASE_MS: Final = 40.0
INTERVAL_S: Final = 30.0  # server.settings.watch_s
CYCLE_S: Final = 300.0
UPLOAD_S: Final = 2.0
BUSY: Final = 0.2
BUSY_MOST_S: Final = 9.0  # a full test
PLANS: Final = depths(ProbePlan())
SETTLED_S: Final = 600.0  # from then on a letter is that of many tests, and not of the first
PROFILE: Final = "generic"
JITTER_MS: Final = {"10": 0.05, "25": 0.1, "50": 0.2, "75": 0.4, "90": 0.6, "95": 0.8, "99": 1.5}
START_US: Final = 1_795_000_000 * US


def rules() -> Rules:
    """One profile: the others are graded alike."""
    every = load_rules()
    return msgspec.structs.replace(every, profiles={PROFILE: every.profiles[PROFILE]})


class Fault(NamedTuple):
    """What is wrong from a moment on; loss src -> dst only."""

    from_s: float
    added_ms: float = 0.0
    loss: float = 0.0


NO_FAULT: Final = Fault(float("inf"))


class Test(NamedTuple):
    """One test of the pair."""

    ended_s: float
    rtt_us: int
    probes: int
    lost: int
    lost_back: int


def usual(draw: random.Random) -> Baseline:
    """What the tests of a calm day make usual."""
    level = Level(draw)
    moments = [n * CYCLE_S for n in range(int(DAY_S / CYCLE_S) + 1)]
    samples = [Sample(round(at * US), round(1000 * (BASE_MS + level.at(at)))) for at in moments]
    found = baseline(samples, samples[-1].at_us + 1)
    assert found is not None
    return found


def tests(draw: random.Random, fault: Fault, until_s: float) -> Iterator[Test]:
    """Run the pair's tests until a moment, each as the pace asks for it."""
    level, pace = Level(draw), Pace(0.0, 0.0)
    cycle_s, now_s = CYCLE_S * draw.random(), 0.0
    while now_s < until_s:
        turn = cycle_s <= pace.next_s
        now_s = max(now_s, min(cycle_s, pace.next_s))
        if draw.random() < BUSY:
            now_s += draw.uniform(0, BUSY_MOST_S)
        plan = PLANS.full if turn or pace.fresh else PLANS.quick if pace.deeper else PLANS.watch
        cycle_s += CYCLE_S * turn
        if not turn:
            pace.started(now_s, INTERVAL_S)
        test = _test(draw, level, fault, plan, now_s)
        now_s = test.ended_s
        pace.heard(_ends(test), now_s)
        yield test


def _test(draw: random.Random, level: Level, fault: Fault, plan: ProbePlan, now_s: float) -> Test:
    lasting_s = cost_of(plan).wall_us / US
    wrong = now_s >= fault.from_s
    added_ms = fault.added_ms if wrong else 0.0
    ways = (fault.loss if wrong else 0.0, 0.0)
    losses = [lost(draw, plan.probes, lasting_s, share) for share in ways]
    rtt_us = max(1, round(1000 * (BASE_MS + level.at(now_s) + added_ms)))
    return Test(now_s + lasting_s, rtt_us, plan.probes, *losses)


def _ends(test: Test) -> list[TestEnded]:
    return [
        TestEnded(test="t", rung=Rung.SRFLX, rtt_p50_us=test.rtt_us, loss_bp=10_000 * gone // test.probes)
        for gone in (test.lost, test.lost_back)
    ]


class Story(NamedTuple):
    """What the report would have said, and when: moments in seconds, None = not within the time."""

    left: float | None  # the letter is no longer what it was
    settled: float | None  # it is as bad as the path
    slower: float | None
    lossy: float | None


def story(draw: random.Random, fault: Fault, until_s: float, truth: Letter, known: Rules) -> Story:
    """Judge a pair's tests as they arrive; ``truth`` is the letter that the path has with the fault."""
    watch, normal = PairWatch("a", "b"), usual(draw)
    seen: dict[str, float] = {}
    first: Letter | None = None
    for number, test in enumerate(tests(draw, fault, until_s)):
        at_s = test.ended_s + UPLOAD_S
        at_us = START_US + round(at_s * US)
        for reading in _readings(test, number):
            watch.take(reading, known, at_us)
        told = watch.told(at_us).get(("a", "b"))
        held = told.held.get(PROFILE) if told else None
        if told is None or held is None:
            continue
        if test.ended_s < fault.from_s:
            first = held.letter
            continue
        facts = {
            "left": held.letter is not first,
            "settled": held.letter is truth,
            "slower": "slower" in seen or told.slower(normal) is not None,
            "lossy": told.loss.since_us is not None,
        }
        seen |= {name: at_s - fault.from_s for name, fact in facts.items() if fact and name not in seen}
    return Story(*(seen.get(name) for name in Story._fields))


def _readings(test: Test, number: int) -> list[Reading]:
    percentiles: dict[str, Any] = {
        f"rtt_p{name}_us": test.rtt_us + round(1000 * more) for name, more in JITTER_MS.items()
    }
    return [
        Reading(
            tenant="default",
            cycle=START_US // US,
            test=f"t{number}",
            src=src,
            dst=dst,
            started_us=START_US,
            ended_us=START_US + round(test.ended_s * US),
            rung=Rung.SRFLX,
            sent=test.probes,
            received=test.probes - gone,
            rtt_n=test.probes,
            rtt_min_us=test.rtt_us,
            **percentiles,
            capacity_kbps=100_000 if test.probes >= PLANS.full.probes else None,
            capacity_trust=CapacityTrust.MEASURED,
            route_id="r",
        )
        for src, dst, gone in (("a", "b", test.lost), ("b", "a", test.lost_back))
    ]


class Calm(NamedTuple):
    """What was called for nothing."""

    slower: int
    lossy: int  # of either direction
    tests: int
    samples: list[Sample]
    normal: Baseline


def calm(draw: random.Random, days: float = 1.0) -> Calm:
    """Judge a pair on which nothing is wrong; a day of the letters alone would take minutes."""
    normal = usual(draw)
    done = list(tests(draw, NO_FAULT, days * DAY_S))
    samples = [Sample(round(test.ended_s * US), test.rtt_us) for test in done]
    found = history(samples, usual=lambda *_: normal, per_test=SAMPLES_PER_TEST)
    ways = ([(test, test.lost) for test in done], [(test, test.lost_back) for test in done])
    return Calm(
        slower=len(found.past) + (found.change is not None),
        lossy=sum(_called([(test.probes, gone) for test, gone in way]) for way in ways),
        tests=len(done),
        samples=samples,
        normal=normal,
    )


def _called(counts: list[tuple[int, int]]) -> int:
    known, called = NO_LOSS, 0
    for at_us, (sent, gone) in enumerate(counts, start=1):
        fresh = loss_change.after(known, at_us=at_us, sent=sent, lost=gone)
        called += known.since_us is None and fresh.since_us is not None
        known = fresh
    return called


def letters(draw: random.Random, known: Rules, hours: float) -> int:
    """Count how often the letter of a pair changes on which nothing is wrong."""
    watch = PairWatch("a", "b")
    shown: list[Letter] = []
    for number, test in enumerate(tests(draw, NO_FAULT, hours * 3_600)):
        at_us = START_US + round((test.ended_s + UPLOAD_S) * US)
        for reading in _readings(test, number):
            watch.take(reading, known, at_us)
        told = watch.told(at_us).get(("a", "b"))
        held = told.held.get(PROFILE) if told else None
        if held is not None and test.ended_s > SETTLED_S:
            shown.append(held.letter)
    return sum(one is not other for one, other in pairwise(shown))
