"""Watching TCP sessions without eBPF: the kernel's list of sockets, asked for again and again.

The same records as from ``ebpf.load.Monitor``, so that nothing after it differs; but what polling cannot see
is not in them:

- a session that came and went between two polls is not told, only counted (``Counters.missed``);
- of one that closed, the numbers are those of the last poll that found it: its end is missing;
- connect latency, resets, the error it ended with, and who used it in between are not known;
- the owner is who holds the descriptor; another user's only with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH;
- other network namespaces, most containers' for instance, are not seen at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from agent.errors import SockDiagError
from agent.passive.inetdiag import Dump, answers, sockets
from agent.passive.polled import Followed, Polled, is_told, record
from agent.passive.procfs import PROC, Held, holders, sessions_opened, still_holds
from ebpf.events import RUN, Counters, Opener, OwnerFacts, SessionEvent

MOST_OWNERS: Final = 4096
"""Processes to remember after their end, 300 bytes each; one more costs the oldest its place."""

YOUNG_POLLS: Final = 4
OLD_POLLS: Final = 16
"""A session changes hands right after it was accepted, if ever: its owner is looked at again in each of the
first polls, then in one of these."""

_REMEDY: Final = "the kernel needs CONFIG_INET_DIAG and CONFIG_INET_TCP_DIAG; try: modprobe tcp_diag"

_log: Final = logging.getLogger("pathgrade.agent.passive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What is asked; a test puts its own in place."""

    dump: Dump = answers
    proc: Path = PROC
    now_ns: Callable[[], int] = time.monotonic_ns


class SockDiag:
    """A ``SessionSource`` that polls. For one thread, and the network namespace that this is in."""

    source: Literal["inet_diag"] = "inet_diag"

    def __init__(self, *, netns: int, every_s: float, host: Host, paused: bool = False) -> None:
        """Poll for the first time, unless paused. Raises OSError where the kernel does not answer."""
        self._netns = netns
        self._every_ns = int(every_s * 1e9)
        self._host = host
        self._owners = _Owners(host.proc)
        self._polled = Polled()
        self._closed: list[SessionEvent] = []
        self._opened_before = self._opened = sessions_opened(proc=host.proc)
        self._followed = 0  # sessions opened since, found and not given up
        self._told = 0
        self._failing = False
        self._due_ns = 0
        self._paused = paused
        if not paused:
            self._poll()

    def pause(self) -> None:
        """As ``PausableSource``."""
        self._paused = True
        self._polled, self._closed = Polled(), []

    def resume(self) -> None:
        """As ``PausableSource``. What was opened meanwhile is no session that was missed."""
        if self._paused:
            self._paused = False
            self._opened_before += sessions_opened(proc=self._host.proc) - self._opened
            self._try_to_poll()

    def drain(self) -> bytes:
        """Poll when it is time; give the sessions found gone since the last call, as a run."""
        if not self._paused and self._host.now_ns() >= self._due_ns:
            self._try_to_poll()
        closed, self._closed = self._closed, []
        self._told += len(closed)
        return b"".join(RUN.pack(*event) for event in closed)

    def snapshot(self) -> list[SessionEvent]:
        """Poll now; give the sessions open now, and the listening sockets, each once."""
        if not self._paused:
            self._try_to_poll()
        return [record(one, netns=self._netns) for one in self._polled]

    def owner(self, pid: int, started_ns: int) -> OwnerFacts | None:
        """Tell what was read of a process when it was found to hold a session."""
        return self._owners.facts.get((pid, started_ns))

    def counters(self) -> Counters:
        """Count the sessions told; ``missed`` are those that the kernel counted and no poll found open."""
        missed = self._opened - self._opened_before - self._followed
        return Counters(seen=(self._told,), lost=(0,), missed=max(0, missed))

    def _try_to_poll(self) -> None:
        """Poll; where that fails, what was last found stands until the next time."""
        try:
            self._poll()
        except (OSError, ValueError) as error:
            if not self._failing:
                _log.warning("the list of TCP sockets cannot be had now why=%r", str(error))
            self._failing = True

    def _poll(self) -> None:
        now_ns = self._host.now_ns()
        self._due_ns = now_ns + self._every_ns
        self._opened = sessions_opened(proc=self._host.proc)  # before the list, which may hold later ones
        new, gone = self._polled.take(sockets(self._host.dump), now_ns)
        self._followed += len([one for one in new if one.opener != Opener.UNKNOWN])
        for one in gone:
            self._close(one)
        self._owners.find(self._polled)
        self._failing = False

    def _close(self, one: Followed) -> None:
        event = record(one, netns=self._netns, closed=True)
        if is_told(event):
            self._closed.append(event)
        elif one.opener != Opener.UNKNOWN:
            self._followed -= 1


class _Owners:
    """Finds who holds the sockets, and remembers who that was."""

    def __init__(self, proc: Path) -> None:
        self.facts: dict[tuple[int, int], OwnerFacts] = {}
        self._proc = proc
        self._refused = False

    def find(self, followed: Iterable[Followed]) -> None:
        """Look once through all processes for the holders of sockets that have none, or had one."""
        wanted = {one.socket.inode: one for one in followed if self._is_wanted(one)}
        if not wanted:
            return
        found = holders(wanted.keys(), proc=self._proc)
        for inode, one in wanted.items():
            one.asked_inode = inode
            self._take(one, found.held.get(inode))
        if found.refused and found.held.keys() != wanted.keys():
            self._say_refused(found.refused)

    def _is_wanted(self, one: Followed) -> bool:
        """True where nobody was asked yet, or who had it has it no more."""
        if one.held is None or one.held.inode != one.socket.inode:
            return one.socket.inode not in {0, one.asked_inode}
        return _is_due(one) and not still_holds(one.held, proc=self._proc)

    def _take(self, one: Followed, held: list[Held] | None) -> None:
        """Take the owner. A server hands a session to its child, a client's child inherits it by chance."""
        if held:  # else its last holder stands: the socket is on its way to another process, or the kernel's
            choose = max if one.accepted else min
            one.held = choose(held, key=lambda by: (by.process.started_ns, by.process.pid))
            self._remember(one.held)

    def _remember(self, held: Held) -> None:
        process = held.process
        self.facts.pop((process.pid, process.started_ns), None)  # to put it last
        self.facts[process.pid, process.started_ns] = process.facts
        if len(self.facts) > MOST_OWNERS:
            del self.facts[next(iter(self.facts))]

    def _say_refused(self, processes: int) -> None:
        if not self._refused:
            _log.warning(
                "%d processes of other users do not show their sockets, which have no owner therefore "
                "remedy='grant CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH'",
                processes,
            )
        self._refused = True


def _is_due(one: Followed) -> bool:
    """Spread over the polls, by cookie."""
    return one.polls <= YOUNG_POLLS or (one.polls + one.socket.cookie) % OLD_POLLS == 0


@contextmanager
def open_sockdiag(
    *, netns: int | None, every_s: float = 1.0, host: Host | None = None, paused: bool = False
) -> Iterator[SockDiag]:
    """Watch the sessions of this process's network namespace, by a look every ``every_s``.

    Needs no privilege, but the two named above to tell other users' processes. ``netns`` is its inode, or
    None: then the other namespaces are missed, which is logged. Raises ``SockDiagError`` where the kernel
    does not answer, or where ``netns`` is another namespace.
    """
    host = host or Host()
    own = (host.proc / "thread-self/ns/net").stat().st_ino
    if netns is None:
        _log.warning(
            "polling sees one network namespace: sessions in containers that have their own are missed"
        )
    elif netns != own:
        raise SockDiagError(
            f"cannot poll network namespace {netns} from namespace {own}",
            remedy="run the agent in that namespace, or use eBPF",
        )
    try:
        source = SockDiag(netns=own, every_s=every_s, host=host, paused=paused)
    except (OSError, ValueError) as error:
        raise SockDiagError(f"the kernel does not list its TCP sockets: {error}", remedy=_REMEDY) from error
    yield source
