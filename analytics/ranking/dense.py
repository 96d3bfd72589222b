"""Numbers of all pairs of a large fleet as plain arrays: what is asked on a request is read from these. Pure.

Row after row of a matrix whose agents are ordered by site, then by name: the paths from an agent are a slice,
those to it a slice with a step.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal

from analytics.cut import packed
from analytics.measurement import Letter, Rung
from analytics.overview import (
    BLANK,
    PACKINGS,
    RUNGS,
    AgentPaths,
    LetterCount,
    Metric,
    PathBrief,
)
from analytics.paths import WORST_FIRST
from analytics.shapes import PathRow

NO_OUTCOME: Final = -(2**31)
MOST_OUTCOME: Final = 2**31 - 1
Format = Literal["B", "H", "I"]
FORMATS: Final[Mapping[int, Format]] = {1: "B", 2: "H", 4: "I"}
"""Of ``memoryview.cast``: DuckDB's and ours, little endian on all machines that we run on."""
_RANK: Final = {ord(letter.value): rank for rank, letter in enumerate(WORST_FIRST)}
_BLANK: Final = ord(BLANK)
Pair = tuple[str, str]


@dataclass(frozen=True)
class Dense:
    """All pairs of a fleet at a moment."""

    at_us: int
    agents: tuple[str, ...]  # of rows and columns
    sites: tuple[str, ...]  # of each
    letters: Mapping[str, bytes] = field(repr=False)  # by profile, a byte each; blank = not known
    outcomes: Mapping[str, bytes] = field(repr=False)  # by profile, int32 each, ``NO_OUTCOME`` = none
    cells: Mapping[Metric, bytes] = field(repr=False)  # as ``PACKINGS`` says; all but the letters

    @cached_property
    def places(self) -> dict[str, int]:
        """Row of each agent."""
        return {name: place for place, name in enumerate(self.agents)}

    def letter(self, profile: str, src: str, dst: str) -> Letter | None:
        """Letter of a path; None where nothing is known of it."""
        src_at, dst_at = self.places.get(src), self.places.get(dst)
        if src_at is None or dst_at is None:
            return None
        code = self.letters[profile][src_at * len(self.agents) + dst_at]
        return None if code == _BLANK else Letter(chr(code))

    def counts(self, profile: str) -> Counter[Letter]:
        """How many paths have each letter."""
        letters = self.letters[profile]
        counted = {letter: letters.count(letter.value.encode()) for letter in Letter}
        return Counter({letter: count for letter, count in counted.items() if count})

    def relayed(self, profile: str) -> int:
        """How many paths go through a relay."""
        rungs = self.shown(profile, Metric.RUNG)
        return sum(rungs.count(bytes([code])) for code, rung in enumerate(RUNGS) if rung.relayed)

    def with_rows(self, profile: str, rows: Iterable[PathRow]) -> Dense:
        """With what rows say in place of what the columns do: letters, and the numbers of watched paths."""
        letters, outcomes = bytearray(self.letters[profile]), bytearray(self.outcomes[profile])
        numbers, watched = memoryview(outcomes).cast("i"), dict[int, PathRow]()
        for row in rows:
            at = self.places[row.src] * len(self.agents) + self.places[row.dst]
            letters[at], outcome = ord(row.grade.letter.value), row.grade.outcome
            numbers[at] = NO_OUTCOME if outcome is None else max(-MOST_OUTCOME, min(outcome, MOST_OUTCOME))
            if row.watched:
                watched[at] = row
        numbers.release()
        return replace(
            self,
            letters={**self.letters, profile: bytes(letters)},
            outcomes={**self.outcomes, profile: bytes(outcomes)},
            cells={metric: _with(cells, metric, watched) for metric, cells in self.cells.items()},
        )

    def digest(self, profile: str) -> str:
        """Name what the arrays of a profile say: equal where all but ages is equal."""
        parts = (self.letters[profile], self.outcomes[profile], self._numbers_digest)
        return _digest(parts)

    @cached_property
    def _numbers_digest(self) -> bytes:
        numbers = (cells for metric, cells in self.cells.items() if metric is not Metric.AGE)
        return _digest((*numbers, repr(self.agents).encode(), repr(self.sites).encode())).encode()

    def shown(self, profile: str, metric: Metric) -> bytes:
        """One metric of the paths that a profile is for."""
        letters = self.letters[profile]
        if metric is Metric.LETTER:
            return letters
        cells, packing = self.cells[metric], PACKINGS[metric]
        own = memoryview(cells).cast(FORMATS[packing.cell_bytes])
        if letters.count(BLANK.encode()) == self._unmeasured:
            return cells
        blanked = bytearray(cells)
        numbers = memoryview(blanked).cast(FORMATS[packing.cell_bytes])
        for at, letter in enumerate(letters):
            if letter == _BLANK and own[at] != packing.none:
                numbers[at] = packing.none
        return bytes(blanked)

    def measured(self, without: Iterable[str] = ()) -> int:
        """How many paths are measured; ``without`` those of some agents."""
        rungs, size, none = self.cells[Metric.RUNG], len(self.agents), bytes([PACKINGS[Metric.RUNG].none])
        gone = [self.places[name] for name in without if name in self.places]
        if not gone:
            return size * size - self._unmeasured
        left = bytearray(rungs)
        for at in gone:
            left[at * size : (at + 1) * size] = none * size
            left[at::size] = none * size
        return size * size - left.count(none)

    @cached_property
    def _unmeasured(self) -> int:
        return self.cells[Metric.RUNG].count(bytes([PACKINGS[Metric.RUNG].none]))

    # --- one agent --------------------------------------------------------------------------------------

    def of_agent(
        self,
        agent: str,
        profile: str,
        *,
        unit: str,
        better: int,
        revision: str,
        stale_after_s: int,
        limit: int,
    ) -> AgentPaths:
        """List one agent's paths; ``better`` is -1 where a higher outcome is."""
        at, size = self.places.get(agent), len(self.agents)
        ways = (slice(0, 0), slice(0, 0))
        if at is not None:
            ways = (slice(at * size, (at + 1) * size), slice(at, None, size))
        found: list[tuple[list[PathBrief], list[LetterCount], int]] = []
        for way, outward in zip(ways, (True, False), strict=True):
            columns = self._columns(profile, way)
            order = sorted(
                (place for place, letter in enumerate(columns.letters) if letter != _BLANK),
                key=lambda place, told=columns: told.key(place, better),  # type: ignore[misc]  # bound at once
            )
            shown = [
                columns.brief(place, self._ends(agent, place, outward=outward), unit, stale_after_s)
                for place in order[:limit]
            ]
            found.append((shown, columns.counts(), len(order)))
        (out, out_letters, out_of), (into, into_letters, into_of) = found
        return AgentPaths(
            agent=agent,
            profile=profile,
            at_us=self.at_us,
            revision=revision,
            out=out,
            into=into,
            out_of=out_of,
            into_of=into_of,
            out_letters=out_letters,
            into_letters=into_letters,
        )

    def _ends(self, agent: str, place: int, *, outward: bool) -> tuple[str, str, str, str]:
        own, other = (agent, self.sites[self.places[agent]]), (self.agents[place], self.sites[place])
        (src, src_site), (dst, dst_site) = (own, other) if outward else (other, own)
        return src, dst, src_site, dst_site

    def _columns(self, profile: str, way: slice) -> _Columns:
        numbers = {
            metric: list(memoryview(self.cells[metric]).cast(FORMATS[PACKINGS[metric].cell_bytes])[way])
            for metric in self.cells
        }
        outcomes = list(memoryview(self.outcomes[profile]).cast("i")[way])
        return _Columns(self.letters[profile][way], outcomes, numbers)


@dataclass(frozen=True, slots=True)
class _Columns:
    """The paths of one agent, one way."""

    letters: bytes
    outcomes: list[int]
    numbers: Mapping[Metric, list[int]]

    def key(self, place: int, better: int) -> tuple[int, int, int, int]:
        """Order as a report's: letter, outcome, round trip, name."""
        outcome = self.outcomes[place]
        known = 0 if outcome == NO_OUTCOME else better * outcome
        return _RANK[self.letters[place]], -known, -(self._number(Metric.RTT, place) or 0), place

    def counts(self) -> list[LetterCount]:
        counted = {letter: self.letters.count(letter.value.encode()) for letter in WORST_FIRST}
        return [LetterCount(letter=letter, paths=count) for letter, count in counted.items() if count]

    def brief(self, place: int, ends: tuple[str, str, str, str], unit: str, stale_after_s: int) -> PathBrief:
        src, dst, src_site, dst_site = ends
        letter, outcome = Letter(chr(self.letters[place])), self.outcomes[place]
        age_s = self._number(Metric.AGE, place) or 0
        rung = self._number(Metric.RUNG, place)
        return PathBrief(
            src=src,
            dst=dst,
            src_site=src_site,
            dst_site=dst_site,
            letter=letter,
            outcome=None if outcome == NO_OUTCOME else outcome,
            unit=unit,
            rung=Rung.NONE if rung is None else RUNGS[rung],
            rtt_p50_us=self._number(Metric.RTT, place),
            loss_bp=self._number(Metric.LOSS, place),
            loss_back_bp=self._number(Metric.LOSS_BACK, place),
            age_s=age_s,
            stale=letter is Letter.UNKNOWN and age_s > stale_after_s,
        )

    def _number(self, metric: Metric, place: int) -> int | None:
        value = self.numbers[metric][place]
        return None if value == PACKINGS[metric].none else value


def _with(cells: bytes, metric: Metric, rows: Mapping[int, PathRow]) -> bytes:
    if not rows:
        return cells
    packing, changed = PACKINGS[metric], bytearray(cells)
    numbers = memoryview(changed).cast(FORMATS[packing.cell_bytes])
    for at, row in rows.items():
        numbers[at] = packed(row, metric)
    numbers.release()
    return bytes(changed)


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.blake2b(digest_size=9)
    for part in parts:
        found.update(part)
    return found.hexdigest()
