"""Round trips and losses as real paths have them while nothing is wrong; a seed makes them again.

Round trips (ms, of one look every ten seconds): heavy tails (Student's t, 3 degrees) with a memory (AR(1),
0.7), one look in a hundred is a spike of 30 ms in the mean, and the day has its own curve. Losses: one probe
in two thousand by itself, and four times a day a gap of up to a second in which nothing gets through.
"""

from __future__ import annotations

import math
import random
from typing import Final

LOOK_S: Final = 10
MEMORY: Final = 0.7
DAY_S: Final = 86_400
LONE: Final = 0.0005
GAPS_A_DAY: Final = 4


class Level:
    """The round trip above its base, in ms, at moments that only go on."""

    def __init__(self, draw: random.Random, start_s: float = 0.0) -> None:
        self._draw = draw
        self._look = int(start_s // LOOK_S) - 1
        self._level = self._spike = 0.0

    def at(self, now_s: float) -> float:
        """Between two looks nothing moves: tests close to each other see the same."""
        look = int(now_s // LOOK_S)
        for _ in range(min(look - self._look, 60)):
            self._level = MEMORY * self._level + 0.6 * student(self._draw, 3)
        if look != self._look:
            self._look = look
            self._spike = self._draw.expovariate(1 / 30) if self._draw.random() < 0.01 else 0.0
        return self._level + self._spike + 1.5 * math.sin(2 * math.pi * now_s / DAY_S)


def student(draw: random.Random, freedom: int) -> float:
    """Student's t."""
    chi_square = sum(draw.gauss(0, 1) ** 2 for _ in range(freedom))
    return draw.gauss(0, 1) / math.sqrt(chi_square / freedom)


def lost(draw: random.Random, probes: int, lasting_s: float, share: float = 0.0) -> int:
    """Count the probes of one direction of a test that are lost; ``share``: by a fault, beside the noise."""
    chance = 1 - (1 - LONE) * (1 - share)
    by_chance = sum(draw.random() < chance for _ in range(probes))
    if draw.random() < GAPS_A_DAY * (lasting_s + 0.5) / DAY_S:
        by_chance += round(probes * min(1.0, draw.random() / lasting_s))
    return min(probes, by_chance)
