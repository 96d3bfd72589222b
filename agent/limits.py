"""What the agent may take of its host, and what it does less of when it takes more. Pure: no clock, no disk.

It sheds in order, one step at a time: packet trains, then all active tests, then the detail of passive
capture. A step is given time to show; and when all is well below the limits for long enough, the last step is
taken back first. What is left runs on whatever it takes: a host without its agent is one nobody sees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Final, NamedTuple

LOOK_S: Final = 5.0
"""Between looks."""
OVER_NS: Final = 60_000_000_000
"""CPU is counted over the last minute: a test takes much for a second, and nothing for the next ten."""
LEAST_NS: Final = 20_000_000_000
"""Of looks, before CPU is judged: at its start an agent loads its parts."""
HOUR_NS: Final = 3_600_000_000_000
MARK_NS: Final = 60_000_000_000
"""Bytes are counted by the minute, for an hour."""
MOST_MARKS: Final = 61
MOST_LOOKS: Final = 32
STEP_NS: Final = 60_000_000_000
"""From one step to the next: CPU over the last minute must have had time to fall."""
EASE_NS: Final = 300_000_000_000
"""All must have been below ``EASE_BP`` of the limits for so long before a step is taken back."""
EASE_BP: Final = 8_000
WHOLE_BP: Final = 10_000


class Shed(IntEnum):
    """What is left out; each includes those before it."""

    NOTHING = 0
    TRAINS = 1
    TESTS = 2
    DETAIL = 3

    @property
    def words(self) -> str:
        """As it is told to people and to the server."""
        return _WORDS[self]


_WORDS: Final = {
    Shed.NOTHING: "",
    Shed.TRAINS: "packet trains",
    Shed.TESTS: "active tests",
    Shed.DETAIL: "passive detail",
}


class Limits(NamedTuple):
    """What the agent may take; 0 = as much as it needs."""

    cpu_bp: int  # CPU time, in 1/100 of a percent of one core
    rss_kb: int
    bytes_per_hour: int  # sent: tests over UDP, and batches to the server


class Use(NamedTuple):
    """What it took so far; ``at_ns`` never steps back."""

    at_ns: int
    cpu_us: int
    rss_kb: int
    bytes_sent: int


class Taken(NamedTuple):
    """What it takes now; None = not known yet."""

    cpu_bp: int | None
    rss_kb: int
    bytes_per_hour: int

    def worst(self, limits: Limits) -> tuple[int, str]:
        """Name what is nearest its limit, and how much of that it takes, in 1/100 of a percent."""
        shares = [
            (taken * WHOLE_BP // limit, say(taken, limit))
            for taken, limit, say in zip(self, limits, _SAY, strict=True)
            if limit and taken is not None
        ]
        return max(shares, default=(0, ""))


_SAY: Final[tuple[Callable[[int, int], str], ...]] = (
    lambda taken, limit: f"CPU {taken / 100:g} % of a core, limit {limit / 100:g} %",
    lambda taken, limit: f"memory {taken // 1_000} MB, limit {limit // 1_000} MB",
    lambda taken, limit: f"{taken / 1e6:.1f} MB sent in the last hour, limit {limit / 1e6:.1f} MB",
)


class Governor:
    """Looks at what the agent takes, and says what to leave out."""

    def __init__(self, limits: Limits) -> None:
        self.shed = Shed.NOTHING
        self.why = ""
        """What was over its limit when the last step was taken."""
        self.times = 0
        """Steps taken, towards less."""
        self.limits = limits
        self._looks: deque[Use] = deque(maxlen=MOST_LOOKS)
        self._marks: deque[tuple[int, int]] = deque(maxlen=MOST_MARKS)  # when, bytes sent by then
        self._changed_ns: int | None = None
        self._well_since_ns: int | None = None

    def look(self, use: Use) -> bool:
        """Take a look in; True if ``shed`` is another now."""
        taken = self._taken(use)
        share_bp, why = taken.worst(self.limits)
        if share_bp > EASE_BP:
            self._well_since_ns = None
        elif self._well_since_ns is None:
            self._well_since_ns = use.at_ns
        before = self.shed
        if share_bp > WHOLE_BP and self.shed < Shed.DETAIL and self._has_waited(use.at_ns, STEP_NS):
            self.shed, self.why, self.times = Shed(self.shed + 1), why, self.times + 1
        elif self.shed and self._is_well(use.at_ns) and self._has_waited(use.at_ns, EASE_NS):
            self.shed = Shed(self.shed - 1)
            self.why = self.why if self.shed else ""
        if self.shed is not before:
            self._changed_ns = use.at_ns
        return self.shed is not before

    @property
    def bytes_sent(self) -> int:
        """Bytes sent since this process began, as of the last look."""
        return self._looks[-1].bytes_sent if self._looks else 0

    def sent(self) -> list[tuple[int, int]]:
        """Tell what counts of the last hour: a moment, and the bytes sent since then; oldest first."""
        return [(at_ns, self.bytes_sent - by_then) for at_ns, by_then in self._marks]

    def restore(self, sent: Iterable[tuple[int, int]], shed: Shed, why: str, *, now_ns: int) -> None:
        """Take in what an earlier process sent and left out; before the first look.

        What was left out stays so for as long as if that step had been taken now.
        """
        self._marks.extend((at_ns, -since) for at_ns, since in sent)
        if shed:
            self.shed, self.why, self._changed_ns = shed, why, now_ns

    def _taken(self, use: Use) -> Taken:
        self._looks.append(use)
        while self._looks[0].at_ns < use.at_ns - OVER_NS:
            self._looks.popleft()
        if not self._marks or use.at_ns - self._marks[-1][0] >= MARK_NS:
            self._marks.append((use.at_ns, use.bytes_sent))
        while len(self._marks) > 1 and self._marks[0][0] < use.at_ns - HOUR_NS:
            self._marks.popleft()
        first = self._looks[0]
        over_us = (use.at_ns - first.at_ns) // 1_000
        known = use.at_ns - first.at_ns >= LEAST_NS
        return Taken(
            (use.cpu_us - first.cpu_us) * WHOLE_BP // over_us if known else None,
            use.rss_kb,
            use.bytes_sent - self._marks[0][1],
        )

    def _has_waited(self, at_ns: int, long_ns: int) -> bool:
        return self._changed_ns is None or at_ns - self._changed_ns >= long_ns

    def _is_well(self, at_ns: int) -> bool:
        return self._well_since_ns is not None and at_ns - self._well_since_ns >= EASE_NS
