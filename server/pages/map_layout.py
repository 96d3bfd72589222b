"""Where sites and lines stand on the map of sites: pure geometry, the same for the same fleet.

Sites stand on an ellipse, the relay in its middle. A direct way is a curve that keeps off the middle; a way
through the relay is a curve through it. Nothing here knows of grades.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Size:
    """A drawing and its boxes, in units of its own."""

    name: str
    width: int
    height: int
    box: int  # width of a site
    agents: int  # named in a site at most; the others are counted
    steep: bool  # higher than wide: sites at even heights


WIDE: Final = Size("wide", 1_120, 640, 168, 4, steep=False)
NARROW: Final = Size("narrow", 390, 620, 112, 0, steep=True)
FEW: Final = 8
"""Up to so many sites, each has room for the names of its agents."""
HEAD: Final = 42
"""Height of a site's box without agents."""
AGENT: Final = 20
"""Of each line with an agent."""
MARGIN: Final = 12
KEEP_OFF: Final = 64
"""How far a direct way stays from the middle."""
PULL: Final = 0.35
"""How much a direct way bends towards the middle: neighbours' ways stay inside the ring."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """Where a site stands: ``at`` is its middle."""

    at: Point
    width: int
    height: int

    @property
    def left(self) -> int:
        """Left edge."""
        return round(self.at.x - self.width / 2)

    @property
    def top(self) -> int:
        """Upper edge."""
        return round(self.at.y - self.height / 2)


@dataclass(frozen=True, slots=True)
class Curve:
    """A quadratic curve between two sites' middles."""

    start: Point
    control: Point
    end: Point

    @property
    def d(self) -> str:
        """As SVG's path data."""
        points = [f"{point.x:.0f} {point.y:.0f}" for point in (self.start, self.control, self.end)]
        return f"M{points[0]}Q{points[1]} {points[2]}"

    def along(self, share: float) -> Point:
        """The point at a share of the way, from 0 at the start to 1."""
        rest = 1 - share
        return Point(
            rest**2 * self.start.x + 2 * rest * share * self.control.x + share**2 * self.end.x,
            rest**2 * self.start.y + 2 * rest * share * self.control.y + share**2 * self.end.y,
        )


def named(sites: int, size: Size) -> int:
    """How many agents of each site are named."""
    return size.agents if sites <= FEW else min(size.agents, 1)


def height_of(agents: int, most: int) -> int:
    """Height of a site's box: its head, the agents that are named, and a line that counts the others."""
    lines = min(agents, most) + (1 if most and agents > most else 0)
    return HEAD + lines * AGENT + (6 if lines else 0)


def boxes(agents: Sequence[int], size: Size) -> list[Box]:
    """Place sites by how many agents each has: the first at the top, the others clockwise."""
    most = named(len(agents), size)
    heights = [height_of(count, most) for count in agents]
    middle = middle_of(size)
    across = size.width / 2 - size.box / 2 - MARGIN
    down = size.height / 2 - max(heights, default=HEAD) / 2 - MARGIN
    return [
        Box(Point(middle.x + across * x, middle.y + down * y), size.box, height)
        for (x, y), height in zip(places(len(heights), steep=size.steep), heights, strict=True)
    ]


def places(count: int, *, steep: bool) -> list[tuple[float, float]]:
    """Places on the unit circle, clockwise from the top: at even angles, or at even heights."""
    turns = [place / max(1, count) for place in range(count)]
    if not steep:
        return [(math.sin(2 * math.pi * turn), -math.cos(2 * math.pi * turn)) for turn in turns]
    heights = [abs(4 * turn - 2) - 1 for turn in turns]  # 1 at the top, -1 at the bottom
    sides = [1 if turn <= 0.5 else -1 for turn in turns]
    return [(side * math.sqrt(1 - y * y), -y) for side, y in zip(sides, heights, strict=True)]


def middle_of(size: Size) -> Point:
    """Where the relay stands."""
    return Point(size.width / 2, size.height / 2)


def direct(start: Point, end: Point, size: Size) -> Curve:
    """A way that goes through nobody: bent a little to the middle, and around it."""
    centre = middle_of(size)
    half = Point((start.x + end.x) / 2, (start.y + end.y) / 2)
    control = Point(half.x + (centre.x - half.x) * PULL, half.y + (centre.y - half.y) * PULL)
    curve = Curve(start, control, end)
    summit = curve.along(0.5)
    if math.hypot(summit.x - centre.x, summit.y - centre.y) >= KEEP_OFF:
        return curve
    away = _away(start, end, half, centre)
    return Curve(
        start,
        Point(2 * (centre.x + away.x * KEEP_OFF) - half.x, 2 * (centre.y + away.y * KEEP_OFF) - half.y),
        end,
    )


def _away(start: Point, end: Point, half: Point, centre: Point) -> Point:
    """The direction, of length 1, from the middle to the side that a straight way would pass on."""
    aside = Point(half.x - centre.x, half.y - centre.y)
    length = math.hypot(aside.x, aside.y)
    if length < 1:  # straight through the middle: to its right, whichever
        aside = Point(start.y - end.y, end.x - start.x)
        length = math.hypot(aside.x, aside.y) or 1.0
    return Point(aside.x / length, aside.y / length)


def through(start: Point, end: Point, size: Size) -> Curve:
    """A way through the relay: the curve whose half is in the middle."""
    centre = middle_of(size)
    return Curve(
        start, Point(2 * centre.x - (start.x + end.x) / 2, 2 * centre.y - (start.y + end.y) / 2), end
    )
