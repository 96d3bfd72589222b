"""What chance allows: the exact binomial interval (Clopper and Pearson 1934). Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

CONFIDENCE: Final = 0.95
STEPS: Final = 60  # of halving: more than a double can tell apart


def interval(lost: int, sent: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Between which rates of loss the true one lies, where ``lost`` of ``sent`` were lost."""
    tail = (1 - confidence) / 2
    low = 0.0 if lost == 0 else _root(lambda rate: 1 - at_most(lost - 1, sent, rate) - tail)
    high = 1.0 if lost == sent else _root(lambda rate: tail - at_most(lost, sent, rate))
    return low, high


def at_most(lost: int, sent: int, rate: float) -> float:
    """How likely it is that so many or fewer of ``sent`` are lost."""
    return math.fsum(_exactly(n, sent, rate) for n in range(lost + 1))


def _exactly(lost: int, sent: int, rate: float) -> float:
    ways = math.lgamma(sent + 1) - math.lgamma(lost + 1) - math.lgamma(sent - lost + 1)
    return math.exp(ways + lost * math.log(rate) + (sent - lost) * math.log1p(-rate))


def _root(rises: Callable[[float], float]) -> float:
    """Where a rising function of a rate is zero."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) < 0 else (low, middle)
    return (low + high) / 2


def off(told_lost: int, told_sent: int, lost: int, sent: int) -> float:
    """How far a told loss is from the true count, in parts of the way to the end of its interval.

    0 = the same rate; up to 1 = within the interval; above = outside.
    """
    told, true = told_lost / told_sent, lost / sent
    low, high = interval(lost, sent)
    reach = high - true if told > true else true - low
    return abs(told - true) / reach if reach else math.inf if told != true else 0.0
