"""What is known of a pair that is tested between cycles: letters that hold, loss and change since when. Pure.

READ FIRST: ``PairWatch.take``. One instance a pair; both ends' readings of each test go in as they arrive.
The order in which the two ends tell of one test makes no difference, and a reading that comes twice none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from analytics import hysteresis, loss_change
from analytics.baseline import Baseline, Sample
from analytics.detect import Change, history
from analytics.grade import grade
from analytics.hysteresis import Held, Seen
from analytics.loss_change import NO_LOSS, Loss
from analytics.measurement import Grade, Letter, Reading, RouteChange, Rung
from analytics.rules.load import Rules
from analytics.shapes import PathRow
from analytics.window import KEPT_US, ROUND_TRIPS, Both, together

Way = tuple[str, str]
"""Source and destination."""

LATEST_US: Final = 120_000_000
"""A pair whose last test is older than this is not watched any more: what was held is not shown."""
MOST_TESTS: Final = 256
MOST_SAMPLES: Final = 480
"""Round trips for the CUSUM: four hours at two a minute."""
DEAD_BAND_PERCENT: Final = 10
SAMPLES_PER_TEST: Final = 1
"""A light test counts as one of the samples that the CUSUM is made for."""

_RTTS: Final = tuple(name for name in Reading.__struct_fields__ if name.startswith("rtt_") and "_p" in name)


class Watched(NamedTuple):
    """What is known of one directed path, at the moment of its last test."""

    reading: Reading  # of the last tests together
    held: Mapping[str, Held]  # profile -> letter; none where nothing could be graded yet
    loss: Loss
    samples: tuple[Sample, ...]  # of this route

    def slower(self, usual: Baseline) -> Change | None:
        """A change that is on, by the round trips of the light tests."""
        return history(self.samples, usual=lambda *_: usual, per_test=SAMPLES_PER_TEST).change


@dataclass(slots=True)
class _Direction:
    loss: Loss = NO_LOSS
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=MOST_SAMPLES))
    held: dict[str, Held] = field(default_factory=dict)

    def forget_path(self) -> None:
        """Another way begins afresh; the letters go on: they are of the pair."""
        self.loss = NO_LOSS
        self.samples.clear()

    def count(self, reading: Reading, at_us: int) -> None:
        lost = max(0, reading.sent - reading.received)
        self.loss = loss_change.after(self.loss, at_us=at_us, sent=reading.sent, lost=lost)
        if reading.rtt_p50_us is not None:
            self.samples.append(Sample(at_us, reading.rtt_p50_us))


class PairWatch:
    """One pair. For one thread."""

    def __init__(self, first: str, second: str) -> None:
        self._ways = ((first, second), (second, first))
        self._half: Reading | None = None
        self._tests: deque[Both] = deque(maxlen=MOST_TESTS)
        self._directions = (_Direction(), _Direction())

    def take(self, reading: Reading, rules: Rules, at_us: int) -> bool:
        """Take one end's reading in; True once both ends have told of a test that ended, and it is judged.

        ``at_us`` is the server's time: ends' clocks may be wrong, and differ.
        """
        if self._tests and self._tests[-1].there.test == reading.test:
            return False
        half, self._half = self._half, reading
        if half is None or half.test != reading.test or half.src == reading.src:
            return False
        self._half = None
        ends = {half.src: half, reading.src: reading}
        there, back = (ends.get(src) for src, _ in self._ways)
        if there is None or back is None or there.error or back.error:
            return False  # broken off: nobody knows why, and it says nothing of the path
        latest_us = self._tests[-1].at_us if self._tests else 0
        self._add(Both(there, back, max(at_us, latest_us + 1)))
        self._judge(rules)
        return True

    def told(self, at_us: int) -> dict[Way, Watched]:
        """What is known of both directions; nothing where a single reading of a cycle says more.

        That is so if the last test is not of the last minutes, or if no larger test is among them.
        """
        if not self._tests or at_us - self._tests[-1].at_us > LATEST_US or not self._is_founded():
            return {}
        return {
            way: Watched(reading, dict(known.held), known.loss, tuple(known.samples))
            for way, reading, known in zip(self._ways, self._together().ends, self._directions, strict=True)
        }

    def _add(self, test: Both) -> None:
        if self._tests and _is_another_path(self._tests, test):
            self._tests.clear()
            for direction in self._directions:
                direction.forget_path()
        while self._tests and test.at_us - self._tests[0].at_us > KEPT_US:
            self._tests.popleft()
        self._tests.append(test)
        for reading, direction in zip(test.ends, self._directions, strict=True):
            direction.count(reading, test.at_us)

    def _is_founded(self) -> bool:
        failed = any(end.rung is Rung.NONE for end in self._tests[-1].ends)
        return failed or any(min(end.rtt_n for end in test.ends) >= ROUND_TRIPS for test in self._tests)

    def _together(self) -> Both:
        since = [one.loss.since_us for one in self._directions if one.loss.since_us is not None]
        return together(self._tests, loss_since_us=max(since, default=None))

    def _judge(self, rules: Rules) -> None:
        there, back, at_us = self._together()
        for reading, other, direction in zip((there, back), (back, there), self._directions, strict=True):
            for profile in rules.profiles:
                seen = _seen(reading, other, profile, rules, at_us)
                if seen is not None:
                    direction.held[profile] = hysteresis.after(direction.held.get(profile), seen)


def _is_another_path(before: deque[Both], now: Both) -> bool:
    """Another rung than the last one that got through, or a route that its sender calls changed."""
    known = (end.rung for test in reversed(before) for end in test.ends if end.rung is not Rung.NONE)
    rung = next(known, None)
    fresh = {end.rung for end in now.ends} - {Rung.NONE}
    moved = rung is not None and bool(fresh) and rung not in fresh
    return moved or any(end.route_change is RouteChange.CHANGED for end in now.ends)


def _seen(reading: Reading, back: Reading, profile: str, rules: Rules, at_us: int) -> Seen | None:
    """One evaluation; None where no letter could be given."""
    letter = grade(reading, back, profile, rules, at_us).letter
    if letter is Letter.UNKNOWN:
        return None
    firm = grade(_worsened(reading), _worsened(back), profile, rules, at_us).letter
    return Seen(at_us, letter, letter if firm is Letter.UNKNOWN else firm)


def _worsened(reading: Reading) -> Reading:
    """The reading with longer round trips and less capacity, by the dead band."""
    rtts = {name: value for name in _RTTS if (value := getattr(reading, name)) is not None}
    changed = {name: value * (100 + DEAD_BAND_PERCENT) // 100 for name, value in rtts.items()}
    if reading.capacity_kbps is not None:
        changed["capacity_kbps"] = reading.capacity_kbps * 100 // (100 + DEAD_BAND_PERCENT)
    return msgspec.structs.replace(reading, **changed)


def with_latest_tests(latest: Sequence[Reading], watched: Mapping[Way, Watched]) -> list[Reading]:
    """The latest readings, those of watched paths put together from their latest tests."""
    known = {way: one.reading for way, one in watched.items()}
    return [known.get((reading.src, reading.dst), reading) for reading in latest]


def with_watch(row: PathRow, watched: Mapping[Way, Watched]) -> PathRow:
    """Put what was watched into a path's row: the letter that holds, and what began when."""
    known = watched.get((row.src, row.dst))
    if known is None:
        return row
    held = known.held.get(row.grade.profile)
    lossy = {"lossy_since_us": known.loss.since_us, "watched": True}
    if held is None:
        return msgspec.structs.replace(row, **lossy)
    return msgspec.structs.replace(
        row, grade=_as_held(row.grade, held), letter_since_us=held.since_us, **lossy
    )


def _as_held(now: Grade, held: Held) -> Grade:
    """The grade with the letter that holds; what was measured now is said beside it."""
    if now.letter is held.letter:
        return now
    if now.letter is Letter.UNKNOWN:
        return msgspec.structs.replace(now, letter=held.letter)
    why = f"{now.letter.value} at the last test, which has not lasted yet: {now.reason}"
    return msgspec.structs.replace(now, letter=held.letter, reason=why)
