"""The lab's processes: started in a namespace, logged to a file, ended by pid, and gone when the lab is gone.

``setpriv --pdeathsig`` makes the kernel end them even if the lab's own process is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lab.errors import PartError
from lab.net import inside

POLL_S: Final = 0.05
END_S: Final = 8  # a part that has not ended by then is killed
LOG_LINES: Final = 12
ENDED_STATES: Final = frozenset("ZX")  # ended, and not yet collected by its parent


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5) stat field 22); None if it has ended.

    With it a pid names one process for good: the kernel may give the number to another one later.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ENDED_STATES else int(fields[19])


@dataclass(frozen=True, slots=True)
class Part:
    """One running process of the lab."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ended(self) -> bool:
        """True once the process has ended."""
        return self.process.poll() is not None

    def log_tail(self) -> str:
        """The last lines it wrote."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-LOG_LINES:])


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Parts:
    """All processes of one lab. ``started`` is told of each at once, so that a crash leaves nobody unknown.

    ``meanwhile`` is called again and again while something is waited for.
    """

    logs: Path
    started: Callable[[str, int], None]
    meanwhile: Callable[[], None] = _nothing
    running: dict[str, Part] = field(default_factory=dict)

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        namespace: str = "",
        pass_fds: Sequence[int] = (),
        environment: dict[str, str] | None = None,
    ) -> Part:
        """Start a process, in a namespace if one is named."""
        log = self.logs / f"{name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *(inside(namespace, command) if namespace else command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(pass_fds),
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C is for the lab, which then ends its parts in order
            )
        part = Part(name, process, log)
        self.running[name] = part
        self.started(name, process.pid)
        return part

    def check(self) -> None:
        """Raise ``PartError`` if a process ended that should run."""
        for part in self.running.values():
            if part.ended:
                raise _failed(part, f"ended with exit code {part.process.returncode}")

    def wait_until(
        self, ready: Callable[[], bool], *, what: str, at_most_s: float, look_every_s: float = POLL_S
    ) -> None:
        """Wait for a condition while all processes run; raises ``PartError`` when one ends or time is up."""
        deadline = time.monotonic() + at_most_s
        while not ready():
            self.check()
            self.meanwhile()
            if time.monotonic() > deadline:
                raise PartError(f"{what}: not within {at_most_s:g} s", remedy=f"see the logs in {self.logs}")
            time.sleep(look_every_s)

    def run(
        self,
        name: str,
        command: Sequence[str],
        *,
        namespace: str,
        at_most_s: float,
        watch: Callable[[], None] = _nothing,
    ) -> float:
        """Run a process to its good end; returns its seconds. ``watch`` is called while it runs.

        Raises ``PartError`` if it fails or takes too long.
        """
        began = time.monotonic()
        part = self.start(name, command, namespace=namespace)
        del self.running[name]  # it is meant to end
        try:
            while not part.ended and time.monotonic() - began < at_most_s:
                watch()
                self.meanwhile()
                time.sleep(POLL_S)
        finally:
            if late := not part.ended:
                part.process.kill()
            code = part.process.wait()
        if late or code:
            why = f"took over {at_most_s:g} s" if late else f"exit code {code}"
            raise _failed(part, why)
        return time.monotonic() - began

    def stop(self) -> None:
        """End all processes, the last started first; kill what does not end."""
        parts = list(reversed(self.running.values()))
        for part in parts:
            part.process.terminate()
        deadline = time.monotonic() + END_S
        for part in parts:
            _end(part.process, max(0.0, deadline - time.monotonic()))
        self.running.clear()


def _failed(part: Part, why: str) -> PartError:
    said = part.log_tail() or "(nothing)"
    return PartError(f"{part.name}: {why}; it last said:\n{said}", remedy=f"see {part.log}")


def _end(process: subprocess.Popen[bytes], within_s: float) -> None:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_stranger(pid: int, started: int, within_s: float = END_S, *, kill: bool = False) -> None:
    """End a process that is no child of this one, if it is still the one that started then."""
    if start_time(pid) != started:
        return
    os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)
    deadline = time.monotonic() + within_s
    while start_time(pid) == started:
        if time.monotonic() > deadline:
            if not kill:
                end_stranger(pid, started, within_s, kill=True)
            return
        time.sleep(POLL_S)


def listens(pid: int, protocol: str, port: int) -> bool:
    """Tell whether something listens on a port in the namespace of a process; ``protocol`` is tcp or udp."""
    wanted = f":{port:04X}"
    state = {"tcp": "0A", "udp": "07"}[protocol]
    for family in ("", "6"):
        try:
            lines = Path(f"/proc/{pid}/net/{protocol}{family}").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(line.split()[1].endswith(wanted) and line.split()[3] == state for line in lines):
            return True
    return False
