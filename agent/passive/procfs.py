"""Whose a socket is, from the processes' tables of open files (proc(5)).

A look at all of them costs 5 us for each descriptor on the host, so one is taken only for sockets that are
new. A descriptor that was found is looked at again for the price of one system call: while it is still the
socket, its process is still the owner.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from agent.passive.owner import started_in_ticks
from ebpf.events import OwnerFacts

PROC: Final = Path("/proc")
_NS_PER_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_COMMAND_SIZE: Final = 16
_DELETED: Final = " (deleted)"
_LINK: Final = "socket:["
_OPENS: Final = frozenset({"ActiveOpens", "PassiveOpens"})


class Process(NamedTuple):
    """A process, read while it lived."""

    pid: int
    started_ns: int  # CLOCK_BOOTTIME, by the kernel's tick
    command: bytes  # NUL-padded
    facts: OwnerFacts


class Held(NamedTuple):
    """A socket in a process's table of open files."""

    process: Process
    descriptor: int
    inode: int


class Holders(NamedTuple):
    """What one look at all tables found."""

    held: dict[int, list[Held]]  # by inode, a process once; without those that nobody holds
    refused: int  # processes of other users, whose tables this one may not read


def holders(wanted: Set[int], *, proc: Path = PROC) -> Holders:
    """Find who holds these sockets, by inode. Processes that end meanwhile are passed over."""
    held: dict[int, list[Held]] = {}
    refused = 0
    for pid in _pids(proc):
        try:
            table = dict(_sockets(f"{proc}/{pid}/fd", wanted))
        except PermissionError:
            refused += 1
            continue
        process = read_process(pid, proc=proc) if table else None
        if process is not None:
            for inode, descriptor in table.items():
                held.setdefault(inode, []).append(Held(process, descriptor, inode))
    return Holders(held, refused)


def still_holds(held: Held, *, proc: Path = PROC) -> bool:
    """Tell whether the descriptor is the socket it was. False also where that cannot be told."""
    try:
        target = os.readlink(f"{proc}/{held.process.pid}/fd/{held.descriptor}")  # noqa: PTH115  # 4 times faster
    except OSError:
        return False
    return target == f"{_LINK}{held.inode}]"


def read_process(pid: int, *, proc: Path = PROC) -> Process | None:
    """Read what is known of a process; None = it has ended."""
    folder = proc / str(pid)
    try:
        stat = (folder / "stat").read_bytes()
        started_ns = started_in_ticks(stat.decode("ascii", "replace")) * _NS_PER_TICK
        uid = _uid((folder / "status").read_text("utf-8", "replace"))
        command = stat[stat.index(b"(") + 1 : stat.rindex(b")")]
    except (OSError, ValueError):
        return None
    command = command[: _COMMAND_SIZE - 1].ljust(_COMMAND_SIZE, b"\0")
    return Process(pid, started_ns, command, OwnerFacts(uid, _executable(folder), _cgroup(folder)))


def _pids(proc: Path) -> Iterator[int]:
    return (int(name) for name in os.listdir(proc) if name.isdecimal())  # noqa: PTH208  # names are enough


def _sockets(folder: str, wanted: Set[int]) -> Iterator[tuple[int, int]]:
    """Give inode and descriptor of the wanted sockets in a table. Raises PermissionError."""
    for descriptor in _listed(folder):
        with suppress(FileNotFoundError, ProcessLookupError):  # closed meanwhile
            target = os.readlink(f"{folder}/{descriptor}")  # noqa: PTH115  # as above
            inode = int(target[len(_LINK) : -1]) if target.startswith(_LINK) else 0
            if inode in wanted:
                yield inode, int(descriptor)


def _listed(folder: str) -> Iterable[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  # as above
    except (FileNotFoundError, ProcessLookupError):
        return ()


def _uid(status: str) -> int:
    """Read the real user: second word of its line. Raises ValueError where there is none."""
    (line,) = (line for line in status.split("\n") if line.startswith("Uid:"))
    _, real, *_ = line.split()
    return int(real)


def _executable(folder: Path) -> str:
    """Read the program's path; empty = another user's, which is not told to everyone."""
    with suppress(OSError):
        return str((folder / "exe").readlink()).removesuffix(_DELETED)
    return ""


def _cgroup(folder: Path) -> str:
    """Read the last part of the path in version 2 (cgroups(7)); empty = the root, or version 1 only."""
    with suppress(OSError):
        for line in (folder / "cgroup").read_text("utf-8", "replace").split("\n"):
            if line.startswith("0::"):
                return line.rpartition("/")[2]
    return ""


def sessions_opened(*, proc: Path = PROC) -> int:
    """Tell how many TCP sessions this network namespace opened, or tried to, since it was made.

    ActiveOpens and PassiveOpens of RFC 4022, counted by the kernel. Raises OSError or ValueError where it
    does not tell.
    """
    lines = (proc / "thread-self/net/snmp").read_text("ascii").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    counts = dict(zip(names, values, strict=True))
    if not counts.keys() >= _OPENS:
        raise ValueError(f"/proc/net/snmp does not tell {' and '.join(sorted(_OPENS))}")
    return sum(int(counts[name]) for name in _OPENS)
