"""What a lab has made, on disk before it is made, so that ``down`` can undo it even after a crash."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from lab import net
from lab.errors import NameTakenError
from lab.processes import end_stranger, start_time

FOLDER: Final = Path("/run/pathgrade-lab")
DATA: Final = Path("/var/lib/pathgrade-lab")  # not /tmp, which may be a small one in memory


class Process(msgspec.Struct, frozen=True):
    """A process for good: its pid alone may be given to another one later."""

    name: str
    pid: int
    started: int


class LabState(msgspec.Struct, kw_only=True):
    """One lab. ``keeper`` is the process that holds it."""

    name: str
    scenario: str
    folder: str
    keeper: Process
    namespaces: list[str]
    port: int = 0  # of the report, on this machine's loopback; 0 = no server
    phase: str = "starting"
    up_since_s: float = 0.0
    processes: list[Process] = []

    def save(self) -> None:
        """Write it, whole or not at all."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        fresh = unfinished_of(self.name)
        fresh.write_bytes(msgspec.json.encode(self))
        fresh.rename(path_of(self.name))

    def add_process(self, name: str, pid: int) -> None:
        """Note a process that was just started."""
        self.processes.append(Process(name, pid, start_time(pid) or 0))
        self.save()

    @property
    def kept(self) -> bool:
        """True while the process that holds the lab runs."""
        return start_time(self.keeper.pid) == self.keeper.started


def path_of(name: str) -> Path:
    """Where a lab's state is."""
    return FOLDER / f"{name}.json"


def unfinished_of(name: str) -> Path:
    """Where it is while it is being written."""
    return FOLDER / f"{name}.json.tmp"


def read(name: str) -> LabState | None:
    """The state of a lab; None if there is no such lab."""
    try:
        return msgspec.json.decode(path_of(name).read_bytes(), type=LabState)
    except FileNotFoundError:
        return None


def known() -> list[str]:
    """Names of all labs."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def claim(state: LabState) -> None:
    """Take a lab's name, clearing what a crash left; ``NameTakenError`` while another process holds it."""
    with _lock():
        before = read(state.name)
        if before and before.kept and before.keeper.pid != os.getpid():
            raise NameTakenError(
                f"lab '{state.name}' is up, held by process {before.keeper.pid}",
                remedy=f"scripts/lab/run down --name {state.name}",
            )
        if before:
            sweep(before)
        state.save()


def sweep(state: LabState) -> None:
    """Undo everything a lab made: processes, namespaces, files. Safe to repeat."""
    for process in reversed(state.processes):
        end_stranger(process.pid, process.started)
    for namespace in net.existing().intersection(state.namespaces):
        _end_all_inside(namespace)
    net.remove(state.namespaces)
    shutil.rmtree(state.folder, ignore_errors=True)
    unfinished_of(state.name).unlink(missing_ok=True)
    path_of(state.name).unlink(missing_ok=True)


def _end_all_inside(namespace: str) -> None:
    """Grandchildren that outlived their parent: nobody but this lab can be in its namespaces."""
    for pid in net.pids_inside(namespace):
        started = start_time(pid)
        if started is not None and pid != os.getpid():
            end_stranger(pid, started, kill=True)


@contextmanager
def _lock() -> Iterator[None]:
    """One at a time through ``claim``, so that two labs cannot take the same name."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
