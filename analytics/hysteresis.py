"""Which letter is shown of a path that is graded often: bad news soon, good news once it has lasted. Pure.

Every evaluation moves the shown letter ``s`` to the better of ``best`` and the worse of ``s`` and ``worst``:

- ``worst``: what 4 of the last 6 evaluations are, or are worse than; and one letter better than both of the
  last two, so that a fall by many letters shows at once, all but its last step; and unreachable after three
  failures in a row, or after two that span 30 s.
- ``best``: the worst of all evaluations of the last five minutes, each judged as if it were 10 % worse (the
  dead band); and F where the last two got through, so that a path is never shown as unreachable that is not.

All of these are order statistics of the same evaluations, and minima and maxima of them. So worse input never
raises the letter that is shown, constant input never makes it flap, and only evaluations of the last five
minutes count: a path that is tested once in a cycle is taken at its word, as there is nothing else to go by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from analytics.measurement import Letter

S_US: Final = 1_000_000
WINDOW_US: Final = 300 * S_US
"""A better letter must have lasted for so long."""
OF: Final = 6
NEEDED: Final = 4
FAILURES: Final = 3
FAILING_US: Final = 30 * S_US
MOST_SEEN: Final = 400
"""Evaluations that are remembered: tests of one pair do not follow each other faster than that."""

ORDER: Final = (Letter.A, Letter.B, Letter.C, Letter.D, Letter.F, Letter.UNREACHABLE)
_RANK: Final = {letter: rank for rank, letter in enumerate(ORDER)}
_BEST, _F, _X = 0, len(ORDER) - 2, len(ORDER) - 1


class Seen(NamedTuple):
    """One evaluation. ``letter`` as measured, ``firm`` if everything were 10 % worse."""

    at_us: int
    letter: Letter
    firm: Letter


@dataclass(frozen=True, slots=True)
class Held:
    """The shown letter, and what is needed to go on from here."""

    letter: Letter
    since_us: int  # the first evaluation that was as it is shown now
    began_us: int  # the first evaluation of all
    seen: tuple[Seen, ...]  # of the last five minutes, and no more than needed

    @property
    def latest(self) -> Letter:
        """What the last evaluation said."""
        return self.seen[-1].letter


def after(held: Held | None, now: Seen) -> Held:
    """Take an evaluation in. ``?`` is none: raises ``ValueError``; so does one that is not the latest."""
    rank = _RANK.get(now.letter)
    if rank is None or now.firm not in _RANK:
        raise ValueError(f"{now.letter.value} says nothing that could be held")
    if held is None:
        return Held(now.letter, now.at_us, now.at_us, (now,))
    if now.at_us <= held.seen[-1].at_us:
        raise ValueError(f"an evaluation of {now.at_us} after one of {held.seen[-1].at_us}")
    seen = (*(one for one in held.seen if one.at_us > now.at_us - WINDOW_US), now)[-MOST_SEEN:]
    shown = _RANK[held.letter]
    lasted = now.at_us - held.began_us >= WINDOW_US
    fresh = min(max(shown, _worst(seen)), _best(seen, lasted=lasted))
    since_us = held.since_us if fresh == shown else _since_us(seen, shown, fresh)
    return Held(ORDER[fresh], since_us, held.began_us, seen)


def _worst(seen: Sequence[Seen]) -> int:
    """As bad as this at least, by what was seen."""
    ranks = [_RANK[one.letter] for one in seen]
    latest = sorted(ranks[-OF:], reverse=True)
    often = latest[min(NEEDED, len(latest)) - 1]
    twice = min(ranks[-2:]) - 1 if len(ranks) > 1 else _BEST
    return max(often, twice, _X if _fails(seen) else _BEST)


def _fails(seen: Sequence[Seen]) -> bool:
    failures = 0
    for one in reversed(seen):
        if one.letter is not Letter.UNREACHABLE:
            break
        failures += 1
    if failures < 2:
        return False
    return failures >= FAILURES or seen[-1].at_us - seen[-failures].at_us >= FAILING_US


def _best(seen: Sequence[Seen], *, lasted: bool) -> int:
    """As good as this at most is allowed by nothing that was seen."""
    reached = all(one.letter is not Letter.UNREACHABLE for one in seen[-2:])
    by_reach = _F if reached else _X
    if not lasted:
        return by_reach
    return min(by_reach, max(max(_RANK[one.letter], _RANK[one.firm]) for one in seen))


def _since_us(seen: Sequence[Seen], before: int, fresh: int) -> int:
    """When it became so: the first evaluation that was not yet as it was shown before."""
    if fresh > before:
        return next(one.at_us for one in seen[-OF:] if _RANK[one.letter] > before)
    return seen[0].at_us
