"""What the kernel says of TCP sessions (TCP_INFO, through ``ss``), to compare the passive rows with.

Now and then while they run, and of each once more as its socket goes (``ss --events``): a smoothed round trip
moves, and a busy machine looks seldom.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from lab.errors import CommandError
from lab.net import inside, run

LOOK_EVERY_S: Final = 0.2
SOCK_DIAG: Final = "4"  # linux/netlink.h
ENDS_S: Final = 3.0  # a session's ends go a moment after the applications let go
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
    """Looks at the sessions of one service port in several namespaces, now and then, and at their end."""

    namespaces: dict[str, str]
    port: int
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    _next_s: float = 0.0
    _ends: dict[str, IO[str]] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.samples = {key: [] for key in self.namespaces}

    def __enter__(self) -> Self:
        """Begin to listen for sockets that go."""
        with ExitStack() as opened:
            for key, namespace in self.namespaces.items():
                self._ends[key] = opened.enter_context(tempfile.TemporaryFile("a+"))
                # Line by line: it is ended by a signal, and would keep what it has not written.
                command = ["stdbuf", "-oL", "ss", "-EtinHO", self._which]
                listening = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *inside(namespace, command)], stdout=self._ends[key]
                )
                opened.callback(_end, listening)
                until_s = time.monotonic() + ENDS_S
                while not _listens(listening.pid) and time.monotonic() < until_s:
                    time.sleep(0.01)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        """Take what went as the last samples."""
        with self._open:
            until_s = time.monotonic() + (ENDS_S if kind is None else 0)
            while not all(map(_read, self._ends.values())) and time.monotonic() < until_s:
                time.sleep(0.05)
            for key, file in self._ends.items():
                self.samples[key] += _read(file)

    @property
    def _which(self) -> str:
        return f"( sport = :{self.port} or dport = :{self.port} )"

    def look(self) -> None:
        """Take a sample if it is time."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + LOOK_EVERY_S
        for key, namespace in self.namespaces.items():
            self.samples[key] += self._read(namespace)

    def _read(self, namespace: str) -> list[Sample]:
        try:
            return parse(run(inside(namespace, ["ss", "-tinHO", "state", "established", self._which])))
        except CommandError:
            return []  # a session that ends under ss' hands; the next look has it, or it is over


def _read(file: IO[str]) -> list[Sample]:
    file.seek(0)
    return parse(file.read())


def _listens(pid: int) -> bool:
    """Tell whether something in a process's namespace hears of sockets that go (NETLINK_SOCK_DIAG groups)."""
    try:
        rows = [line.split() for line in Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]]
    except OSError:
        return False  # it has ended
    return any(row[1] == SOCK_DIAG and int(row[3], 16) for row in rows)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
