"""What the ranking answers, and how a fleet's paths are numbered. Pure.

A directed path has a position in the fleet's matrix: ``source x agents + destination``, both by name. So
the other direction, an agent's row and the whole matrix are arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Final

import msgspec

from analytics.measurement import Letter
from analytics.shapes import Member

NOT_MEASURED: Final = " "
"""In a matrix: nothing is known of the path, or it is the agent itself."""


@dataclass(frozen=True)
class Fleet:
    """The enrolled agents and their sites, both by name."""

    agents: tuple[str, ...]
    site_of: tuple[str, ...]  # of each agent
    numbers: dict[str, int] = field(repr=False)  # of each agent

    @classmethod
    def of(cls, members: Iterable[Member]) -> Fleet:
        """Number the members of a fleet."""
        ordered = sorted(members, key=lambda member: member.name)
        names = tuple(member.name for member in ordered)
        sites = tuple(member.site for member in ordered)
        return cls(names, sites, {name: number for number, name in enumerate(names)})

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """Names of all sites."""
        return tuple(sorted(set(self.site_of)))

    @cached_property
    def by_site(self) -> tuple[int, ...]:
        """Numbers of the agents in the order of a matrix that is shown: by site, then by name."""
        return tuple(sorted(range(len(self.agents)), key=lambda number: (self.site_of[number], number)))

    def position(self, src: str, dst: str) -> int:
        """Place of a path in the matrix. Raises ``KeyError`` for a name that is not enrolled."""
        return self.numbers[src] * len(self.agents) + self.numbers[dst]

    def pair(self, position: int) -> tuple[str, str]:
        """Source and destination of a position."""
        src, dst = divmod(position, len(self.agents))
        return self.agents[src], self.agents[dst]


class RankedPath(msgspec.Struct, frozen=True):
    """One directed path in a ranked list."""

    src: str
    dst: str
    src_site: str
    dst_site: str
    letter: Letter
    rule: str
    outcome: int | None
    outcome_low: int | None
    outcome_high: int | None
    at_us: int  # end of the test
    rtt_p50_us: int | None
    rtt_p95_us: int | None
    usual_rtt_us: int | None  # median of the medians before; None where there were none
    loss_bp: int | None


class SitePair(msgspec.Struct, frozen=True, kw_only=True):
    """All paths from one site to another."""

    src_site: str
    dst_site: str
    paths: int
    cannot: int  # with D, F or X
    unknown: int  # with ?
    rtt_p50_us: int | None  # median over the paths


@dataclass(frozen=True, slots=True)
class Matrix:
    """Letters of all paths: a row for each source, a column for each destination, one byte each."""

    agents: tuple[str, ...]
    letters: bytes

    def letter(self, src: int, dst: int) -> str:
        """Letter of a path, or ``NOT_MEASURED``."""
        return chr(self.letters[src * len(self.agents) + dst])


def spread(letters: bytes, positions: Sequence[int], breaks: Iterable[int], size: int) -> bytes:
    """Lay letters out at their positions, which rise, and blanks between.

    ``breaks`` are the places in ``positions`` after which the next position is not the next number.
    """
    laid = bytearray(NOT_MEASURED.encode() * size)
    ends = [0, *(at + 1 for at in breaks), len(letters)] if letters else []
    for begin, end in pairwise(ends):
        at = positions[begin]
        laid[at : at + end - begin] = letters[begin:end]
    return bytes(laid)
