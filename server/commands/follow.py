"""Follows one pair: asks for a test on demand now and then, and for what the server says meanwhile.

It is gentle: one test at a time, each so long after the one before, and none any more after an hour that
nobody touched it. Nothing here waits; ``step`` is called a few times a second, on a clock that is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from analytics.report import PathDetail
from server.api.doors import MeshAsk, MeshRun
from server.errors import AskError, DeniedError
from server.pages.live import Sight
from server.pages.rounds import Rounds

LOOK_S: Final = 1.0
"""Between two looks while a test is on its way."""
IDLE_LOOK_S: Final = 5.0
ARRIVAL_S: Final = 8.0
"""From a test's end to its reading at the server: agents hand theirs over every other second."""
UNTOUCHED_S: Final = 3_600.0


class Asked(Protocol):
    """What is needed of ``server.api.client.Client``. Raises ``AskError``."""

    def detail(self, src: str, dst: str, profile: str | None) -> PathDetail:
        """All of one path."""

    def run_mesh(self, ask: MeshAsk) -> MeshRun:
        """Start tests on demand."""

    def mesh_run(self, id_: str, *, since: int) -> MeshRun:
        """How far they are."""


@dataclass(slots=True, kw_only=True)
class Following:
    """One pair that somebody looks at."""

    server: Asked
    src: str
    dst: str
    profile: str | None
    every_s: float  # from the start of one test to the next
    asks: bool = True
    clock: Callable[[], float]
    rounds: Rounds = field(default_factory=Rounds)
    tests_ended: int = 0
    paused: bool = False
    trouble: str = ""
    _detail: PathDetail | None = None
    _run: str | None = None
    _next_test_s: float = 0.0
    _next_look_s: float = 0.0
    _arrives_until_s: float = 0.0
    _touched_s: float = 0.0

    def begin(self, *, skip: bool = False) -> None:
        """Look for the first time; ``skip``: that test is no round. Raises ``AskError``."""
        self._detail = self.server.detail(self.src, self.dst, self.profile)
        if skip:
            self.rounds.skip(self._detail)
        self.rounds.take(self._detail)
        self._next_test_s = self._touched_s = self.clock()
        self._next_look_s = self.clock() + LOOK_S

    def step(self) -> None:
        """Do what is due. Raises ``AskError``, after which it can go on; ``DeniedError``: no more tests."""
        now_s = self.clock()
        if self._run is not None:
            self._look_at_run(now_s)
        elif self._may_ask(now_s):
            self._ask(now_s)
        if now_s >= self._next_look_s:
            self._look(now_s)

    def tolerant_step(self) -> None:
        """As ``step``, but keep what went wrong as ``trouble``."""
        try:
            self.step()
        except AskError as error:
            self.trouble = str(error)

    def touch(self, *, pause: bool | None = None) -> None:
        """Somebody is there; and maybe wants it to pause or to go on."""
        self._touched_s = self.clock()
        self.paused = self.paused if pause is None else pause

    @property
    def is_settled(self) -> bool:
        """No test is on its way, and the last one's reading has arrived or never will."""
        return self._run is None and self.clock() >= self._arrives_until_s

    @property
    def sight(self) -> Sight:
        """What is seen now."""
        assert self._detail is not None  # begin() came first
        return Sight(
            detail=self.rounds.seen(self._detail),
            rounds=self.rounds.count,
            rtts_us=tuple(self.rounds.rtts_us),
            route_since_us=self.rounds.forward.changed_us,
            doing=self._doing(self.clock()),
            trouble=self.trouble,
        )

    def _doing(self, now_s: float) -> str:
        if not self.asks:
            return "only looking: no test is asked for"
        if self._run is not None:
            return "testing"
        if self.paused:
            return "paused"
        if self._is_left_alone(now_s):
            return "nobody touched it for an hour: no more tests until a key is pressed"
        return f"next test in {max(0, round(self._next_test_s - now_s))} s"

    def _may_ask(self, now_s: float) -> bool:
        return self.asks and not self.paused and not self._is_left_alone(now_s) and now_s >= self._next_test_s

    def _is_left_alone(self, now_s: float) -> bool:
        return now_s - self._touched_s >= UNTOUCHED_S

    def _ask(self, now_s: float) -> None:
        self._next_test_s = now_s + self.every_s
        try:
            self._run = self.server.run_mesh(MeshAsk(src=self.src, dst=self.dst)).id
        except DeniedError:
            self.asks = False
            raise
        self.trouble = ""

    def _look_at_run(self, now_s: float) -> None:
        run_id, self._run = self._run or "", None  # a run that cannot be asked after is over
        run = self.server.mesh_run(run_id, since=0)
        if run.ended_us is None:
            self._run = run_id
            return
        self.tests_ended += 1
        self.trouble = next((result.error for result in run.results if result.error), "")
        self._arrives_until_s, self._next_look_s = now_s + ARRIVAL_S, now_s

    def _look(self, now_s: float) -> None:
        detail = self.server.detail(self.src, self.dst, self.profile)
        self._detail = detail
        if self.rounds.take(detail):
            self._arrives_until_s = now_s
        self._next_look_s = now_s + (IDLE_LOOK_S if self.is_settled else LOOK_S)
