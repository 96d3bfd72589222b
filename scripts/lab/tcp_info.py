"""What the kernel says of TCP sessions (TCP_INFO, through ``ss``), to compare the passive rows with."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Final

from lab.errors import CommandError
from lab.net import inside, run

LOOK_EVERY_S: Final = 0.2
_RTT: Final = re.compile(r"\brtt:([0-9.]+)/")
_MIN_RTT: Final = re.compile(r"\bminrtt:([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One session at one moment."""

    srtt_us: int
    rtt_min_us: int | None


def parse(text: str) -> list[Sample]:
    """Read the output of ``ss -tinHO``: one line per session."""
    return [sample for line in text.splitlines() if (sample := _sample(line))]


def _sample(line: str) -> Sample | None:
    rtt, least = _RTT.search(line), _MIN_RTT.search(line)
    if not rtt:
        return None
    return Sample(_us(rtt[1]), _us(least[1]) if least else None)


def _us(milliseconds: str) -> int:
    return round(float(milliseconds) * 1_000)


@dataclass(slots=True)
class Watch:
    """Looks at the sessions of one service port in several namespaces, now and then."""

    namespaces: dict[str, str]
    port: int
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    _next_s: float = 0.0

    def __post_init__(self) -> None:
        self.samples = {key: [] for key in self.namespaces}

    def look(self) -> None:
        """Take a sample if it is time."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + LOOK_EVERY_S
        for key, namespace in self.namespaces.items():
            self.samples[key] += self._read(namespace)

    def _read(self, namespace: str) -> list[Sample]:
        which = f"( sport = :{self.port} or dport = :{self.port} )"
        try:
            return parse(run(inside(namespace, ["ss", "-tinHO", "state", "established", which])))
        except CommandError:
            return []  # a session that ends under ss' hands; the next look has it, or it is over
