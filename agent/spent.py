"""What this host's budgets gave out in the last hour, kept over restarts: ``spent.json`` in the data folder.

A server can end this process (it refuses its credential), and a service manager starts it again; so what
counts against the host's own limits must not be forgotten with a process. The file is ahead of what was
really taken by a lease, a part of the hour's bytes, and is written again only when that is used up: a process
that is killed forgets nothing but what came after the last look, and an agent that tests every few seconds
writes some ten times an hour.

Times are of the wall clock, as the monotonic one begins anew with the machine. What lies in the future, as
the clock was set back meanwhile, counts as spent just now.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from agent import durable
from agent.limits import Governor, Shed
from agent.mesh.budget import Budget
from agent.own_policy import OwnPolicy, Took
from agent.retry import StateLine
from analytics.clock import now_us
from analytics.errors import UNREADABLE

log: Final = logging.getLogger("pathgrade.agent.spent")

FILE_NAME: Final = "spent.json"
MAX_FILE: Final = 512 * 1024
MOST_ENTRIES: Final = 5_000
"""Of a kind: tests come one at a time, and one takes more than a second."""
LEASES: Final = 60
"""One is this part of an hour's limit."""

Whole = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Entries = Annotated[list[tuple[Whole, Whole]], msgspec.Meta(max_length=MOST_ENTRIES)]


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """The file. Moments are in microseconds since 1970; each list is from the oldest on."""

    version: Literal[1] = 1
    sent: Entries  # a moment, and the bytes that the whole agent sent since then
    trains: Entries  # when packet trains were sent, and their bytes
    tests: Annotated[list[tuple[Whole, Whole, Whole]], msgspec.Meta(max_length=MOST_ENTRIES)]
    """When tests began, their bytes, and their CPU time in us."""
    shed: Shed = Shed.NOTHING
    why: Annotated[str, msgspec.Meta(max_length=200)] = ""


def read(data: Path) -> Spent | None:
    """Read the file; None where there is none. Raises ``OSError``, or ``UNREADABLE`` for a damaged one."""
    try:
        with (data / FILE_NAME).open("rb") as file:
            return msgspec.json.decode(file.read(MAX_FILE), type=Spent)
    except FileNotFoundError:
        return None


class Clocks:
    """The two clocks, read once, and moments of one in terms of the other."""

    def __init__(self, monotonic_ns: int, wall_us: int) -> None:
        self.monotonic_ns = monotonic_ns
        self._wall_us = wall_us

    def wall(self, at_ns: int) -> int:
        """Give a moment of the monotonic clock, not before 1970."""
        return max(0, self._wall_us - (self.monotonic_ns - at_ns) // 1_000)

    def monotonic(self, at_us: int) -> int:
        """Give a moment of the wall clock, now at the latest."""
        return self.monotonic_ns - max(0, self._wall_us - at_us) * 1_000


def read_clocks() -> Clocks:
    """Ask this host's clocks."""
    return Clocks(time.monotonic_ns(), now_us())


class Keeper:
    """Keeps what three budgets have given out."""

    def __init__(self, data: Path, *, governor: Governor, trains: Budget, own: OwnPolicy) -> None:
        self._data = data
        self._governor = governor
        self._trains = trains
        self._own = own
        self._line = StateLine(log)
        self._leases = (governor.limits.bytes_per_hour // LEASES, trains.limit // LEASES, 0)
        self._covered: tuple[int, ...] = (0, 0, 0)  # what the file tells of at least
        self._shed = governor.shed
        self._writing = threading.Lock()  # who is cancelled leaves a thread behind that writes

    def restore(self) -> None:
        """Take in what an earlier process left; before anything is measured.

        Of a file that cannot be read nothing is known: all that an hour allows counts as taken now.
        """
        clocks = read_clocks()
        try:
            known = read(self._data)
        except (OSError, *UNREADABLE) as error:
            log.warning("%s is no use, the hour counts as spent why=%r", FILE_NAME, str(error)[:200])
            return self._exhaust(clocks.monotonic_ns)
        return None if known is None else self._take(known, clocks)

    async def keep(self) -> None:
        """Write the file if it is no longer ahead of what was taken. A disk that takes none is said once."""
        totals, shed = self._totals(), self._governor.shed
        if shed is self._shed and all(map(int.__le__, totals, self._covered)):
            return
        if await asyncio.to_thread(self._write, self.spent(read_clocks(), self._leases)):
            self._covered = tuple(map(int.__add__, totals, self._leases))
            self._shed = shed

    def close(self) -> None:
        """Write what was taken, and no more than that."""
        if any(self._totals()) or -1 in self._covered or self._shed is not self._governor.shed:
            self._write(self.spent(read_clocks(), (0, 0, 0)))

    def spent(self, clocks: Clocks, ahead: tuple[int, ...]) -> Spent:
        """Put it all together, with the bytes by which it is to be ahead: sent, and of trains."""
        more_sent, more_trains, _ = ahead
        trains = [*self._trains.spent(clocks.monotonic_ns), (clocks.monotonic_ns, more_trains)]
        tests = [(clocks.wall(one.began_ns), one.bytes, one.cpu_us) for one in self._own.took()]
        return Spent(
            sent=[(clocks.wall(at), since + more_sent) for at, since in self._governor.sent()],
            trains=[(clocks.wall(at), taken) for at, taken in trains if taken][-MOST_ENTRIES:],
            tests=tests[-MOST_ENTRIES:],
            shed=self._governor.shed,
            why=self._governor.why[:200],
        )

    def _totals(self) -> tuple[int, ...]:
        sent = self._governor.bytes_sent if self._governor.limits.bytes_per_hour else 0
        return sent, self._trains.total, self._own.changes

    def _write(self, spent: Spent) -> bool:
        try:
            with self._writing:
                durable.replace(self._data / FILE_NAME, msgspec.json.encode(spent))
        except OSError as error:
            self._line.say(f"{FILE_NAME} not written why={error.strerror!r}", level=logging.WARNING)
            return False
        return True

    def _take(self, known: Spent, clocks: Clocks) -> None:
        self._governor.restore(
            # By time alone: with the clock set back all are of now, and stay in the order that they were in.
            sorted(((clocks.monotonic(at), since) for at, since in known.sent), key=lambda one: one[0]),
            known.shed,
            known.why,
            now_ns=clocks.monotonic_ns,
        )
        self._trains.restore(sorted((clocks.monotonic(at), taken) for at, taken in known.trains))
        took = sorted((clocks.monotonic(at), sent, cpu_us) for at, sent, cpu_us in known.tests)
        self._own.restore(Took(*one) for one in took)

    def _exhaust(self, now_ns: int) -> None:
        limit = self._governor.limits.bytes_per_hour
        over = limit + limit // 100  # that much is clearly more than it may
        self._governor.restore([(now_ns, over)], Shed.NOTHING, "", now_ns=now_ns)
        self._trains.restore([(now_ns, self._trains.limit)])
        self._own.exhaust()
        self._covered = (-1, -1, -1)  # to be written in any case
