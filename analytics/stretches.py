"""A path's tests as time: which letter counted from when to when. Pure.

READ FIRST: ``stretches``. What it gives covers its range without a gap or an overlap, whatever the tests are,
so shares of time add up to the whole, and days put together (``joined``) are the month.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from analytics.letters import BAD
from analytics.measurement import Letter
from analytics.rollup import LIGHT_RTTS

WHOLE_BP: Final = 10_000


class Graded(NamedTuple):
    """One test of a path: when it ended, its letter, how many probes it sent, whether both ends signed."""

    at_us: int
    letter: Letter
    sent: int = LIGHT_RTTS + 1
    signed: bool = False


class Stretch(NamedTuple):
    """A time in which one letter counted."""

    since_us: int
    until_us: int
    letter: Letter

    @property
    def length_us(self) -> int:
        """How long it is."""
        return self.until_us - self.since_us


def stretches(tests: Iterable[Graded], since_us: int, until_us: int, *, counts_for_us: int) -> list[Stretch]:
    """Cut a range where the letter changes; ``tests`` are of from ``counts_for_us`` before the range on.

    A letter counts until the next test ends, for ``counts_for_us`` at most (``sla.time.v1``).
    """
    told = sorted(test for test in tests if not _says_nothing(test) and test.at_us < until_us)
    ends = [*(test.at_us for test in told[1:]), until_us]
    found: list[Stretch] = []
    for test, next_us in zip(told, ends, strict=False):
        counted_us = min(next_us, test.at_us + counts_for_us)
        found += [
            Stretch(test.at_us, counted_us, test.letter),
            Stretch(counted_us, next_us, Letter.UNKNOWN),
        ]
    first_us = told[0].at_us if told else until_us
    return joined([Stretch(since_us, first_us, Letter.UNKNOWN), *found], since_us, until_us)


def _says_nothing(test: Graded) -> bool:
    """A light test is too small for most letters; that it has none says nothing about the path."""
    return test.letter is Letter.UNKNOWN and test.sent <= LIGHT_RTTS


def joined(parts: Iterable[Stretch], since_us: int, until_us: int) -> list[Stretch]:
    """Put stretches that follow each other together, cut to a range; equal letters side by side are one."""
    found: list[Stretch] = []
    for part in parts:
        since, until = max(since_us, part.since_us), min(until_us, part.until_us)
        if since >= until:
            continue
        if found and found[-1].letter is part.letter and found[-1].until_us == since:
            since = found.pop().since_us
        found.append(Stretch(since, until, part.letter))
    return found


def covered(parts: Sequence[Stretch], since_us: int, until_us: int) -> list[Stretch]:
    """Fill what no stretch covers with unknown time."""
    edges = [Stretch(since_us, since_us, Letter.UNKNOWN), *parts, Stretch(until_us, until_us, Letter.UNKNOWN)]
    filled = [edges[0]]
    for before, after in pairwise(edges):
        filled += [Stretch(before.until_us, after.since_us, Letter.UNKNOWN), after]
    return joined(filled, since_us, until_us)


def lengths(parts: Iterable[Stretch]) -> Counter[Letter]:
    """Time by letter, us."""
    found: Counter[Letter] = Counter()
    for part in parts:
        found[part.letter] += part.length_us
    return found


def incidents(parts: Iterable[Stretch]) -> list[Stretch]:
    """Times without a gap in which people could not work, with the worst letter (``sla.incident.v1``)."""
    found: list[Stretch] = []
    for part in parts:
        if part.letter not in BAD:
            continue
        if found and found[-1].until_us == part.since_us:
            before = found.pop()
            found.append(Stretch(before.since_us, part.until_us, _worse(before.letter, part.letter)))
        else:
            found.append(part)
    return found


_WORSE: Final = (Letter.D, Letter.F, Letter.UNREACHABLE)


def _worse(one: Letter, other: Letter) -> Letter:
    return max(one, other, key=_WORSE.index)


def basis_points(of: Counter[Letter], letters: Sequence[Letter]) -> list[int]:
    """Shares of the whole that add up to it exactly: what is lost to rounding goes to the largest remainders.

    All 0 where there is no time at all.
    """
    total = sum(of[letter] for letter in letters)
    if not total:
        return [0] * len(letters)
    exact = [divmod(WHOLE_BP * of[letter], total) for letter in letters]
    lacking = WHOLE_BP - sum(whole for whole, _ in exact)
    order = sorted(range(len(letters)), key=lambda at: -exact[at][1])
    return [whole + (at in order[:lacking]) for at, (whole, _) in enumerate(exact)]
