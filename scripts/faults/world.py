"""The world that faults happen in: a real server on a disk of its own, agents, and a stranger.

Namespaces joined by one router, as in ``benches.mesh_fleet``: server, real agents, one for all replayed
agents, one for whoever means no good. The server's disk is a file with ext4 in it; its fsync can be slow.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from benches import net
from benches.bench import Say
from benches.errors import PartError
from benches.mesh_fleet import AGENTS_PORT, SERVER, Fleet, Part, address_of, join, pathgrade

from faults.soak import rss_kb

AGENTS: Final = 4
REPLAYED: Final = 6
HERD: Final = 60
EVERY_S: Final = 0.4
DISK_MB: Final = 320
CYCLE_S: Final = 20
HERE: Final = Path(__file__).resolve().parent
PATIENCE_S: Final = 180.0
"""For a state to come about: patience is no claim."""


class Size(NamedTuple):
    """How many agents there are."""

    agents: int = AGENTS  # real ones, that test each other
    replayed: int = REPLAYED


class World:
    """All of it, until the context of ``world`` ends."""

    def __init__(
        self, folder: Path, made: Fleet, say: Say, *, size: Size, router: str, aside: str, stranger: str
    ) -> None:
        self.folder = folder
        self.fleet = made
        self.router = router
        self.stranger = stranger
        self.say = say
        self.size = size
        self.names = [f"r{number:02d}" for number in range(size.replayed)]
        self.most_rss_kb = 0
        self.replayed: list[Part] = []
        self._aside = aside
        self._pause = folder / "pause"
        self._slow = folder / "slow-ms"
        self._settings: dict[str, str] = {}

    @property
    def data(self) -> Path:
        """The server's folder, on its disk."""
        return self.folder / "server"

    @property
    def server(self) -> Part:
        """The server's process."""
        if self.fleet.server is None:
            raise PartError("there is no server now", remedy="look at the faults before")
        return self.fleet.server

    # --- parts --------------------------------------------------------------------------------------------

    def start_server(self, **more: str) -> None:
        """Start it, or start it again; ``more`` is for its environment, this once."""
        self.fleet.start_server(self._settings | more)

    def begin(self) -> None:
        """Start everything."""
        self._slow.write_text("0")
        self._settings = {
            "PATHGRADE_CYCLE_S": str(CYCLE_S),
            "PATHGRADE_WATCH_S": "0",
            "PATHGRADE_SEAL_S": "5",
            "PATHGRADE_SLOW_SYNC": str(self._slow),
            "LD_PRELOAD": str(self._shim()),
        }
        self.start_server()
        self.fleet.start_agents(passive=0, within_s=PATIENCE_S)
        self.replay("known", self.names, every_s=EVERY_S)
        self.until(lambda: self.online() == self.everyone, "all agents are online")

    def replay(self, what: str, names: Sequence[str], *, every_s: float) -> Part:
        """Start replayed agents in one process; what they keep is in the log of that name."""
        config = self.folder / f"{what}.json"
        told = {
            "server": f"https://{SERVER}:{AGENTS_PORT}",
            "token": self.token(len(names)),
            "folder": str(self.folder),
            "names": list(names),
            "peers": [*names, *self.names],
            "every_s": every_s,
            "pause": str(self._pause),
        }
        config.write_text(json.dumps(told))
        part = self.run_aside(what, self._aside, ["-m", "faults.replayed", str(config)])
        self.replayed.append(part)
        return part

    def run_aside(self, name: str, namespace: str, words: Sequence[str], **more: str) -> Part:
        """Start one of our own modules in a namespace."""
        log = self.folder / f"{name}.log"
        env = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE.parents[1]}", **more}
        with log.open("ab") as out:
            process = subprocess.Popen(
                net.inside(namespace, [sys.executable, *words]),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
        return Part(name, process, log)

    def token(self, seats: int) -> str:
        """Make an enrolment token."""
        command = [pathgrade(), "server", "token", "--data", str(self.data), "--seats", str(seats)]
        return net.run(command).strip()

    def attack(self, what: str, *, within_s: float = 180.0, where: str = "", **told: Any) -> dict[str, Any]:
        """Have the stranger do something, or somebody else; returns what came of it."""
        about = {"host": SERVER, "port": AGENTS_PORT, "folder": str(self.folder), **told}
        words = [sys.executable, "-m", "faults.attacks", what, json.dumps(about)]
        path = {"PYTHONPATH": f"{HERE.parent}:{HERE.parents[1]}"}
        printed = net.run(net.inside(where or self.stranger, words), within_s=within_s, variables=path)
        found: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return found

    # --- what is so -----------------------------------------------------------------------------------------

    @property
    def everyone(self) -> int:
        """How many agents there are."""
        return sum(self.size)

    def online(self) -> int:
        """How many agents the server has on line; 0 where it does not answer."""
        status = self.fleet.ask("status")
        return int(status["agents_online"]) if status else 0

    def answer_s(self) -> float | None:
        """How long a page takes; None where none comes."""
        began = time.monotonic()
        return time.monotonic() - began if self.fleet.ask("status") is not None else None

    def metric(self, name: str) -> float:
        """Read one of the server's own readings."""
        with urllib.request.urlopen(f"{self.fleet.url}/metrics", timeout=60) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"pathgrade_server_{name}"):
                    return float(line.split()[-1])
        raise PartError(f"no metric is called {name}", remedy="server/metrics/own.py names them")

    def waiting(self) -> int:
        """Batches of replayed agents that are not acknowledged."""
        return sum(len(list((self.folder / name / "outbox").glob("*.batch"))) for name in self.names)

    def tests(self) -> int:
        """Pair tests that real agents have ended."""
        return self.fleet.server_log.count(" test ended ")

    def until(self, ready: Callable[[], bool], what: str, *, within_s: float = PATIENCE_S) -> float:
        """Wait for a state; returns how long it took. Raises ``PartError``."""
        began = time.monotonic()
        while not ready():
            if time.monotonic() - began > within_s:
                raise PartError(f"{what}: not within {within_s:.0f} s", remedy=f"logs are in {self.folder}")
            time.sleep(0.1)
        return time.monotonic() - began

    def drained(self) -> float:
        """Have agents keep no more rows until all is acknowledged; returns how long it took."""
        self._pause.touch()
        try:
            return self.until(lambda: self.waiting() == 0, "what agents kept is taken in")
        finally:
            self._pause.unlink()

    def all_online(self, more: int = 0) -> float:
        """Wait until every agent is back."""
        return self.until(lambda: self.online() >= self.everyone + more, "all agents are back on line")

    # --- faults ---------------------------------------------------------------------------------------------

    def kill_server(self) -> None:
        """SIGKILL."""
        self.server.process.send_signal(signal.SIGKILL)
        self.server.process.wait()
        self.fleet.server = None

    def stop_server(self, within_s: float = 60.0) -> int:
        """SIGTERM; returns its exit code."""
        self.server.process.send_signal(signal.SIGTERM)
        code = self.server.process.wait(within_s)
        self.fleet.server = None
        return code

    def slow_disk(self, ms: int) -> None:
        """Have each fsync of the server take so much longer."""
        self._slow.write_text(str(ms))

    def repair_disk(self) -> None:
        """Do what an operator does with a file system that failed. Raises ``BenchError``."""
        disk = self.folder / "disk"
        net.run(["umount", str(self.data)])
        self.until(lambda: not net.run(["losetup", "-j", str(disk)]), "the disk is let go of")
        net.run(["sh", "-c", f"e2fsck -fy {disk} >/dev/null 2>&1; [ $? -le 1 ]"])  # 1: mended
        net.run(["mount", "-o", "loop", str(disk), str(self.data)])
        (self.data / "repaired").touch()

    def kept(self) -> set[str]:
        """Names of all rows that are on the disks of replayed agents, or were."""
        lines = (self.folder / "known.log").read_text(errors="replace").splitlines()
        return {line for line in lines if line.rpartition(".")[0] in self.names and " " not in line}

    def enough(self) -> None:
        """Have agents keep no more rows."""
        self._pause.touch()
        time.sleep(1)

    def look(self) -> None:
        """Note what memory the server takes."""
        with suppress(PartError):
            if self.fleet.server is not None:
                self.most_rss_kb = max(self.most_rss_kb, rss_kb(self.server.pid))

    def end(self) -> None:
        """End what this world started beside its fleet."""
        for part in self.replayed:
            part.process.kill()
            part.process.wait()

    def _shim(self) -> Path:
        made = self.folder / "slow_sync.so"
        net.run(["gcc", "-O1", "-shared", "-fPIC", "-o", str(made), str(HERE / "slow_sync.c"), "-ldl"])
        return made


@contextmanager
def world(folder: Path, say: Say, size: Size | None = None) -> Iterator[World]:
    """Make a world and start it; everything is ended, unmounted and removed afterwards."""
    folder.chmod(0o711)
    with ExitStack() as opened:
        size = size or Size()
        namespaces = [opened.enter_context(net.namespace()) for _ in range(size.agents + 4)]
        router, server, *agents, aside, stranger = namespaces
        join(router, namespaces[1:])
        opened.enter_context(_disk(folder))
        fleet = Fleet(folder, [server, *agents])
        opened.callback(fleet.stop)
        made = World(folder, fleet, say, size=size, router=router, aside=aside, stranger=stranger)
        opened.callback(made.end)
        opened.enter_context(_watched(made))
        made.begin()
        yield made


def address(part: int) -> str:
    """The address of a namespace of the world: 0 = server, 1.. = agents."""
    return address_of(part)


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """A file with ext4 in it, mounted where the server keeps its data."""
    file, at = folder / "disk", folder / "server"
    at.mkdir()
    with file.open("wb") as made:
        made.truncate(DISK_MB << 20)
    net.run(["mkfs.ext4", "-q", "-m", "0", str(file)])
    net.run(["mount", "-o", "loop", str(file), str(at)])
    try:
        yield
    finally:
        with suppress(Exception):
            net.run(["umount", "-l", str(at)])


@contextmanager
def _watched(made: World) -> Iterator[None]:
    """Look at the server's memory four times a second."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.25):
            made.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
