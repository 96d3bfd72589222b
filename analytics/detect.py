"""When a path became slower than it usually is: a winsorised CUSUM behind a gate of materiality. Pure.

Every test moves a sum by how far its median round trip lies from what is usual, in units of the usual spread,
less a slack; far-out values count no more than ``CLIP`` (winsorising: Tukey 1962), because round trips have
heavy tails. A change is called when the sum passes ``THRESHOLD`` (Page 1954) *and* the last tests were each
slower by an amount that somebody notices. It is over when as many were not.

While a change is on, its tests are no part of what is usual. A new route begins afresh: that is another path.
The rate of false alarms is what ``scripts/bench detect`` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from analytics.baseline import Baseline, Sample, baseline
from analytics.clock import HOUR_US

RULE: Final = "path.slower.v1"
SLACK: Final = 2.0  # of the usual spread: k of the CUSUM
THRESHOLD: Final = 12.0  # h
CLIP: Final = 4.0
PER_TEST: Final = 3
"""A test has hundreds of round trips over seconds: it counts as three of the samples k and h are made for."""
LOOK_US: Final = 15_000_000
"""Apart of those samples. Tests that follow each other faster see the same moment, and count as less."""
MATERIAL_SHARE: Final = 0.2
MATERIAL_US: Final = 5_000
IN_A_ROW: Final = 3
IN_A_ROW_FAR: Final = 2
"""Of tests that are slower by twice what is material."""


@dataclass(frozen=True, slots=True)
class Change:
    """A path that is slower than usual."""

    since_us: int  # the first of the tests that are slower
    usual_us: int
    now_us: int  # the last test's median round trip
    rule: str = RULE
    until_us: int | None = None  # the first of the tests that were not slower any more; None: it is on


@dataclass(frozen=True, slots=True)
class History:
    """What a path's tests say up to the last one."""

    usual: Baseline | None  # None: too little is known
    change: Change | None  # that is on now
    past: Sequence[Change]  # that are over; ``now_us`` is the slowest test's
    cusum: float = 0.0  # where the sum stands; a change needs ``THRESHOLD``
    slower_in_a_row: int = 0  # tests that are materially slower, up to the last one


def material_us(usual_us: int) -> int:
    """By how much a round trip must be slower for somebody to notice."""
    return max(MATERIAL_US, round(MATERIAL_SHARE * usual_us))


def history(
    samples: Iterable[Sample],
    *,
    usual: Callable[[Sequence[Sample], int], Baseline | None] = baseline,
    per_test: int = PER_TEST,
) -> History:
    """Go through the tests of one route in order of time. ``usual`` is what tells a baseline.

    ``per_test`` is how many samples of the CUSUM a test counts as.
    """
    path = _Path(usual, per_test)
    for sample in samples:
        path.take(sample)
    return History(path.usual, path.change, path.past, path.cusum, path.slower_in_a_row)


class _Path:
    """Where the sum stands."""

    def __init__(self, usual: Callable[[Sequence[Sample], int], Baseline | None], per_test: int) -> None:
        self._per_test = per_test
        self.usual: Baseline | None = None
        self.change: Change | None = None
        self.past: list[Change] = []
        self._tell_usual = usual
        self._quiet: list[Sample] = []  # while nothing was wrong
        self._told_hour = -1
        self._sum = 0.0
        self._latest_us: int | None = None
        self._slower: list[Sample] = []  # one after the other, up to now
        self._slower_tests = self._not_slower_tests = 0.0
        self._calm_us = 0  # the first of the tests that are not slower, one after the other

    @property
    def cusum(self) -> float:
        return self._sum

    @property
    def slower_in_a_row(self) -> int:
        return 0 if self._not_slower_tests else len(self._slower)

    def take(self, sample: Sample) -> None:
        if self.change is None and sample.at_us // HOUR_US != self._told_hour:
            self._told_hour = (
                sample.at_us // HOUR_US
            )  # it changes slowly, and takes two weeks of samples to tell
            self.usual = self._tell_usual(self._quiet, sample.at_us)
        if self.usual is None:
            self._quiet.append(sample)
            return
        self._count(sample, self.usual)
        if self.change is None:
            self._look_for_a_change(sample, self.usual)
        else:
            self._look_for_its_end(sample, self.change)

    def _count(self, sample: Sample, usual: Baseline) -> None:
        samples = self._per_test if self._latest_us is None else (sample.at_us - self._latest_us) / LOOK_US
        self._latest_us = sample.at_us
        far = (sample.rtt_us - usual.rtt_us) / usual.spread_us
        step = min(CLIP, max(-CLIP, far)) - SLACK
        self._sum = max(0.0, self._sum + min(self._per_test, samples) * step)
        if sample.rtt_us - usual.rtt_us > material_us(usual.rtt_us):
            self._slower.append(sample)
            self._slower_tests += min(1.0, samples)
            self._not_slower_tests = 0
        else:
            if not self._not_slower_tests:
                self._calm_us = sample.at_us
            self._not_slower_tests += min(1.0, samples)
            if self.change is None:
                self._slower, self._slower_tests = [], 0

    def _look_for_a_change(self, sample: Sample, usual: Baseline) -> None:
        if self._sum < THRESHOLD or self._slower_tests < self._needed(usual):
            if not self._slower:
                self._quiet.append(sample)
            return
        self.change = Change(self._slower[0].at_us, usual.rtt_us, sample.rtt_us)

    def _needed(self, usual: Baseline) -> int:
        far = all(one.rtt_us - usual.rtt_us > 2 * material_us(usual.rtt_us) for one in self._slower)
        return IN_A_ROW_FAR if far else IN_A_ROW

    def _look_for_its_end(self, sample: Sample, change: Change) -> None:
        if self._not_slower_tests < IN_A_ROW:
            self.change = Change(change.since_us, change.usual_us, sample.rtt_us)
            return
        worst_us = max(one.rtt_us for one in self._slower)
        self.past.append(Change(change.since_us, change.usual_us, worst_us, until_us=self._calm_us))
        self.change, self._sum, self._slower, self._slower_tests = None, 0.0, [], 0
        self._quiet.append(sample)
