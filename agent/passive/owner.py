"""Who a process is beyond its pid: program, systemd unit, container, user."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from ebpf.events import OwnerFacts

MOST_OWNERS: Final = 4096
"""Processes to remember; one more costs the longest unused one its place."""

_NS_PER_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_START_FIELD: Final = 22 - 3  # proc_pid_stat(5) counts from 1; the command and what precedes it are cut off
_MOST_READ: Final = 64 * 1024
_MOST_CONTAINER: Final = 64
_MOST_TEXT: Final = 255


class Place(NamedTuple):
    """Where a control group stands; empty = nowhere."""

    unit: str
    container: str


class Owner(NamedTuple):
    """A process, told in what outlives it."""

    executable: str = ""  # path in its own root; empty = unknown
    unit: str = ""
    container: str = ""
    uid: int | None = None


NOBODY: Final = Owner()

_CONTAINERS: Final = (
    # Driver systemd: {docker,libpod,crio,cri-containerd,nerdctl}-ID.scope.
    # Driver cgroupfs: docker/ID, kubepods/.../podUID/ID, libpod-ID. runc's own: ...slice:cri-containerd:ID.
    # conmon is outside: it watches over a container.
    re.compile(r"(?:^|[/:-])(?<!conmon-)([0-9a-f]{64})(?:\.scope)?(?=/|\Z)"),
    # Before LXC 4 the name is a folder of its own. lxc.monitor.NAME is outside.
    re.compile(r"(?:^|/)lxc(?:\.payload)?/([^/]+)"),
    re.compile(r"(?:^|/)lxc\.payload\.([^/]+)"),
)
"""Where a path of a control group names a container. The innermost match counts."""

_UNITS: Final = (".service", ".scope", ".slice")
"""Kinds of systemd units that hold processes, the most telling one first."""

_HIERARCHIES: Final = {"": 0, "name=systemd": 1}
"""cgroups(7): version 2, then the one that systemd keeps in version 1. Any other comes after them."""


@lru_cache(maxsize=256)
def place(path: str) -> Place:
    """Read unit and container from a cgroup's path, or from the last part of one."""
    named = [match for pattern in _CONTAINERS for match in pattern.finditer(path)]
    innermost = max(named, key=lambda match: match.end(), default=None)
    return Place(_unit(path)[:_MOST_TEXT], innermost[1][:_MOST_CONTAINER] if innermost else "")


def _unit(path: str) -> str:
    """Name the innermost unit of the most telling kind; the scope of a container is the container again."""
    parts = [part for part in reversed(path.split("/")) if not _CONTAINERS[0].search(part)]
    return next((part for kind in _UNITS for part in parts if part.endswith(kind)), "")


def place_of(cgroups: str) -> Place:
    """Read unit and container from the text of /proc/PID/cgroup, each from the first line that has one."""
    lines = [line.split(":", 2) for line in cgroups.splitlines()]
    lines = [line for line in lines if len(line) == 3]
    lines.sort(key=lambda line: _HIERARCHIES.get(line[1], len(_HIERARCHIES)))
    places = [place(path) for _, _, path in lines]
    return Place(_first(one.unit for one in places), _first(one.container for one in places))


def _first(texts: Iterable[str]) -> str:
    return next(filter(None, texts), "")


def started_in_ticks(stat: str) -> int:
    """Read a process's start from the text of /proc/PID/stat. Raises ValueError where it is no such text."""
    fields = stat.rpartition(")")[2].split()  # a command may hold spaces and brackets
    if len(fields) <= _START_FIELD:
        raise ValueError("not the text of a /proc/PID/stat")
    return int(fields[_START_FIELD])


class Facts(Protocol):
    """What this module needs of a ``SessionSource``."""

    def owner(self, pid: int, started_ns: int) -> OwnerFacts | None:
        """Tell what is known of a process beyond its name."""


class Owners:
    """Knows the owners of sessions by pid and start. To be asked while they live, or soon after."""

    def __init__(self, facts: Facts, *, proc: Path = Path("/proc"), most: int = MOST_OWNERS) -> None:
        self._facts = facts
        self._proc = str(proc)
        self._most = most
        self._known: OrderedDict[tuple[int, int], Owner] = OrderedDict()

    def of(self, pid: int, started_ns: int) -> Owner:
        """Tell what is known of a process. Never raises: what is not known is empty."""
        if not pid:
            return NOBODY
        known = self._known.get((pid, started_ns))
        if known is None:
            known = self._known[pid, started_ns] = self._look_up(pid, started_ns)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end((pid, started_ns))
        return known

    def _look_up(self, pid: int, started_ns: int) -> Owner:
        facts = self._facts.owner(pid, started_ns)
        stands = self._living_place(pid, started_ns) or place(facts.cgroup if facts else "")
        if facts is None:
            return Owner("", *stands)
        return Owner(facts.executable[:_MOST_TEXT], *stands, facts.uid)

    def _living_place(self, pid: int, started_ns: int) -> Place | None:
        """Ask /proc, which has the whole path. None: the process has ended, or another has its pid by now."""
        try:
            process = os.open(f"{self._proc}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:  # through the folder of this one process: should it end, both reads fail
            if started_in_ticks(_read("stat", process)) != started_ns // _NS_PER_TICK:
                return None
            return place_of(_read("cgroup", process))
        except (OSError, ValueError):
            return None
        finally:
            os.close(process)


def _read(name: str, folder: int) -> str:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(descriptor, _MOST_READ).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
