"""A served fleet whose tests on demand take a moment and move the numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import msgspec

from analytics.measurement import Rung
from analytics.report import PathDetail
from server.api.doors import Mark, MeshAsk, MeshResult, MeshRun
from server.errors import DemandError
from tests.unit.web.fleet import FixtureCore

MOVES_US = (0, 4_000, 41_000, 900)
"""By how much the way is slower in one test after the other."""


@dataclass
class MovingCore(FixtureCore):
    """Each test on demand adds a reading with hops of its own. Also a ``MeshDoor``."""

    lasts_s: float = 0.3
    refuses: str = ""
    asked: list[float] = field(default_factory=list)

    def run(self, ask: MeshAsk, *, actor: str) -> MeshRun:
        if self.refuses:
            raise DemandError(self.refuses, remedy="ask again")
        self.asked.append(time.monotonic())
        return self._told(len(self.asked))

    def run_of(self, id_: str, since: int) -> MeshRun | None:
        return self._told(int(id_))

    def marks(self) -> list[Mark]:
        return []

    def mark(self, mark: Mark, *, actor: str) -> list[Mark]:
        return [mark]

    def detail(
        self, src: str, dst: str, profile: str, at_us: int | None = None, *, sessions: bool = True
    ) -> PathDetail | None:
        made = super().detail(src, dst, profile, at_us)
        if made is None:
            return None
        ended = sum(self._has_ended(number) for number in range(1, len(self.asked) + 1))
        moved_us = MOVES_US[ended % len(MOVES_US)]
        return msgspec.structs.replace(
            made,
            forward_reading=_moved(made.forward_reading, ended, moved_us),
            back_reading=_moved(made.back_reading, ended, moved_us),
            forward=_slower(made.forward, moved_us),
            forward_hops=[_slower(hop, moved_us) if hop.ttl > 1 else hop for hop in made.forward_hops],
        )

    def _has_ended(self, number: int) -> bool:
        return time.monotonic() - self.asked[number - 1] > self.lasts_s

    def _told(self, number: int) -> MeshRun:
        ended = self._has_ended(number)
        results = [MeshResult(src="a", dst="b", rung=Rung.LAN, rtt_p50_us=1)] * 2
        return MeshRun(
            id=str(number),
            pairs=1,
            pairs_ended=int(ended),
            started_us=1,
            ended_us=2 if ended else None,
            results=results if ended else [],
        )


def _moved(reading, number, moved_us):  # type: ignore[no-untyped-def]
    return _slower(msgspec.structs.replace(reading, test=f"t{number}"), moved_us)


def _slower(told, moved_us):  # type: ignore[no-untyped-def]
    """Anything that has round trips, slower."""
    known = (name for name in ("rtt_min_us", "rtt_p50_us", "rtt_p95_us") if getattr(told, name) is not None)
    return msgspec.structs.replace(told, **{name: getattr(told, name) + moved_us for name in known})
