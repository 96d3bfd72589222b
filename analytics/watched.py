"""What is known of a pair that is tested between cycles: letters that hold, loss and change since when. Pure.

READ FIRST: ``PairWatch.take``. One instance a pair; both ends' readings of each test go in as they arrive.
The order in which the two ends tell of one test makes no difference, and a reading that comes twice none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
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

    reading: Reading  # of the last tests together, of those that agree with what is held
    held: Mapping[str, Held]  # profile -> letter; none where nothing could be graded yet
    graded: Mapping[tuple[str, Letter], Grade]  # the last grade of each letter of the last minutes
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
    graded: dict[tuple[str, Letter], Grade] = field(default_factory=dict)
    _given: dict[str, tuple[int, Letter]] = field(
        default_factory=dict
    )  # the last one that was no X, and when
    through: Reading | None = None  # the latest tests together that got through
    failed: Reading | None = None  # the latest that did not

    def forget_path(self) -> None:
        """Another way begins afresh; the letters go on: they are of the pair."""
        self.loss = NO_LOSS
        self.samples.clear()

    @property
    def reading(self) -> Reading:
        """The latest tests: those that did not get through only once they are held to be the truth."""
        cannot = any(held.letter is Letter.UNREACHABLE for held in self.held.values())
        found = (self.failed or self.through) if cannot else (self.through or self.failed)
        assert found is not None  # judged before it is told
        return found

    def note(self, told: Reading) -> None:
        if told.rung is Rung.NONE:
            self.failed = told
        else:
            self.through = told

    def judge(self, reading: Reading, other: Reading, rules: Rules, at_us: int) -> None:
        for profile in rules.profiles:
            letter = self._letter(grade(reading, other, profile, rules, at_us), at_us)
            if letter is None:
                self.held.pop(profile, None)
                self._keep_grades(profile, ())
                continue
            firm = grade(_worsened(reading), _worsened(other), profile, rules, at_us).letter
            seen = Seen(at_us, letter, letter if firm is Letter.UNKNOWN else firm)
            self.held[profile] = held = hysteresis.after(self.held.get(profile), seen)
            self._keep_grades(profile, [one.letter for one in held.seen])

    def _keep_grades(self, profile: str, letters: Collection[Letter]) -> None:
        """Forget the numbers of letters that were not seen lately: they are of another time."""
        gone = [key for key in self.graded if key[0] == profile and key[1] not in letters]
        for key in gone:
            del self.graded[key]

    def _letter(self, found: Grade, at_us: int) -> Letter | None:
        """What is seen. Where no letter can be given it is as it was, for as long as that means anything."""
        if found.letter is Letter.UNKNOWN:
            given_us, letter = self._given.get(found.profile, (0, None))
            return letter if at_us - given_us <= KEPT_US else None
        self.graded[found.profile, found.letter] = found
        if found.letter is not Letter.UNREACHABLE:
            self._given[found.profile] = (at_us, found.letter)
        return found.letter

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
            way: Watched(
                known.reading, dict(known.held), dict(known.graded), known.loss, tuple(known.samples)
            )
            for way, known in zip(self._ways, self._directions, strict=True)
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

    def _judge(self, rules: Rules) -> None:
        """Tell all that was lost; judge a gap in one test only once loss is called, or seen in another."""
        since = [one.loss.since_us for one in self._directions if one.loss.since_us is not None]
        since_us = max(since, default=None)
        told = together(self._tests, loss_since_us=since_us)
        judged = together(self._tests, trimmed=True) if since_us is None else told
        for direction, reading in zip(self._directions, told.ends, strict=True):
            direction.note(reading)
        self._directions[0].judge(judged.there, judged.back, rules, told.at_us)
        self._directions[1].judge(judged.back, judged.there, rules, told.at_us)


def _is_another_path(before: deque[Both], now: Both) -> bool:
    """Another rung than the last one that got through, or a route that its sender calls changed."""
    known = (end.rung for test in reversed(before) for end in test.ends if end.rung is not Rung.NONE)
    rung = next(known, None)
    fresh = {end.rung for end in now.ends} - {Rung.NONE}
    moved = rung is not None and bool(fresh) and rung not in fresh
    return moved or any(end.route_change is RouteChange.CHANGED for end in now.ends)


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
    """Put what was watched into a path's row: the letter that holds, and what began when.

    Where applications' own sessions count, the letter is theirs and of now: none is held there.
    """
    known = watched.get((row.src, row.dst))
    if known is None:
        return row
    row = msgspec.structs.replace(row, watched=True, lossy_since_us=known.loss.since_us)
    held = known.held.get(row.grade.profile)
    if held is None or row.fused is not None:
        return row
    shown = _as_held(row.grade, held, known)
    return msgspec.structs.replace(row, grade=shown, letter_since_us=held.since_us)


def _as_held(now: Grade, held: Held, known: Watched) -> Grade:
    """The last grade with the letter that holds; what the last test said is said beside it.

    A letter between those of the tests has no numbers of its own: those of the last test stand with it.
    """
    latest = known.graded.get((now.profile, held.latest), now)
    grade = now if now.letter is held.letter else known.graded.get((now.profile, held.letter))
    if held.latest is held.letter:
        return msgspec.structs.replace(grade or latest, letter=held.letter)
    told = f"{held.latest} at the last test, which has not lasted yet"
    why = f"{told}: {latest.reason}" if grade is None else f"{told}; before it: {grade.reason}"
    return msgspec.structs.replace(grade or latest, letter=held.letter, reason=why)
